package providers

import "context"

// Finder is a [Provider] that can be asked for the group of one pod by who the pod
// is, by whoever does not know the group's ID.
type Finder interface {
	Provider

	// Find returns a group of the pod of this virtual node with that UID, with its
	// Status. It returns a NotFound error when the cloud has answered, for this one
	// pod, that there is none. Any other error tells nothing.
	Find(ctx context.Context, podUID string) (*Group, error)
}
