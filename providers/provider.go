// Package providers holds what a cloud must do to run pods: the [Provider]
// interface, the neutral types that cross it, and the errors that steer the
// virtual node agent. The clouds are in providers/eci and providers/aci; the
// suite that each must pass is in providers/providertest.
package providers

import (
	"context"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/burstable"
)

// Provider runs container groups in one region of one cloud, on behalf of one
// virtual node. Its methods are safe for concurrent use. Every error is an
// [*Error], classified once, without secrets in its text.
type Provider interface {
	// Name is the cloud's short name, the value of the node label
	// autoburst.io/provider: "eci" or "aci".
	Name() string

	// Capabilities says what the cloud can run, for [burstable.Check].
	Capabilities() burstable.Capabilities

	// Location is where groups run, for the node's topology labels. Zone may be
	// empty.
	Location() Location

	// Check makes the cheapest authenticated read. It returns nil when the
	// cloud answers and accepts the credentials.
	Check(ctx context.Context) error

	// Create starts a group for the pod of spec.Owner and returns its ID. It is
	// idempotent by spec.Owner.PodUID: repeated after a lost answer, it returns
	// the group that the first call made. It returns when the cloud has accepted
	// the group, not when it runs.
	Create(ctx context.Context, spec *GroupSpec) (id string, err error)

	// Delete ends and removes a group. A group that does not exist is no error.
	// It returns when the cloud has accepted the request; the group may still be
	// listed for a while.
	Delete(ctx context.Context, id string) error

	// List returns every group that this virtual node owns, by its ownership
	// tags. It returns all of them or an error, never a part. The groups' Status
	// is nil where the cloud's listing does not carry it.
	List(ctx context.Context) ([]Group, error)

	// Get returns one group with its Status, or a NotFound error.
	Get(ctx context.Context, id string) (*Group, error)

	// Logs returns what a container has printed. The caller closes it.
	Logs(ctx context.Context, id, container string, opts LogOptions) (io.ReadCloser, error)
}

// ChangeLister is a Provider whose cloud tells what has changed of late at less
// cost than a listing.
type ChangeLister interface {
	Provider

	// Changes returns every group of this virtual node whose state changed within
	// the window before now, by the cloud's own clock, with its Status; others may
	// be among them. It returns all of them or an error, never a part. A group that
	// is not among them may have ceased to exist: only List tells.
	Changes(ctx context.Context, window time.Duration) ([]Group, error)
}

// Location is a place in a cloud.
type Location struct{ Region, Zone string }

// Owner is the identity that every group bears as tags. A group whose tags name
// another cluster or node is foreign and never touched.
type Owner struct {
	// ClusterUID is the UID of the kube-system namespace.
	ClusterUID string
	// NodeName is the virtual node.
	NodeName string
	// Namespace, PodName and PodUID name the pod.
	Namespace, PodName, PodUID string
}

// GroupSpec is a pod with everything resolved that only the Kubernetes API
// knows: environment, file contents, credentials. It passed [burstable.Check].
type GroupSpec struct {
	Owner Owner

	RestartPolicy  corev1.RestartPolicy
	InitContainers []Container
	Containers     []Container
	Volumes        []Volume

	RegistryCredentials []RegistryCredential

	// DNS is set when the pod does not use the cloud's own resolver.
	DNS *DNS
	// Hostname and HostAliases are the pod's.
	Hostname    string
	HostAliases []corev1.HostAlias
	// SecurityContext is the pod's.
	SecurityContext *corev1.PodSecurityContext
	// ShareProcessNamespace is the pod's.
	ShareProcessNamespace bool

	// TerminationGracePeriodSeconds and ActiveDeadlineSeconds are the pod's.
	TerminationGracePeriodSeconds *int64
	ActiveDeadlineSeconds         *int64

	// Annotations are the pod's, for the cloud's own settings.
	Annotations map[string]string
}

// Container is one container of a group.
type Container struct {
	Name            string
	Image           string
	ImagePullPolicy corev1.PullPolicy
	Command         []string
	Args            []string
	WorkingDir      string
	Env             []EnvVar
	Ports           []corev1.ContainerPort
	Resources       corev1.ResourceRequirements
	Mounts          []corev1.VolumeMount
	LivenessProbe   *corev1.Probe
	ReadinessProbe  *corev1.Probe
	Lifecycle       *corev1.Lifecycle
	SecurityContext *corev1.SecurityContext
	Stdin           bool
	StdinOnce       bool
	TTY             bool

	// Sidecar marks an init container that runs on beside the group's containers.
	Sidecar bool
	// TerminationMessagePath and TerminationMessagePolicy are the container's, empty
	// for Kubernetes' defaults.
	TerminationMessagePath   string
	TerminationMessagePolicy corev1.TerminationMessagePolicy
}

// EnvVar is a resolved environment variable.
type EnvVar struct {
	Name, Value string
	// Secret marks a value that came from a Secret, or contains one.
	Secret bool
	// FieldPath is set, and Value empty, for a field only the cloud knows:
	// "status.podIP".
	FieldPath string
}

// Volume is a resolved volume; exactly one of the sources is set.
type Volume struct {
	Name     string
	EmptyDir *corev1.EmptyDirVolumeSource
	// Files is the content of a ConfigMap, Secret, downward API or projected
	// volume.
	Files *Files
	// AzureFile is a share of Azure Files.
	AzureFile *AzureFile
}

// AzureFile is a share of Azure Files, and the storage account that opens it.
type AzureFile struct {
	Share                   string
	AccountName, AccountKey string
	ReadOnly                bool
}

// Files are the files of a volume.
type Files struct {
	// Secret marks content that must go to the cloud's secret fields.
	Secret bool
	Items  []File
}

// File is one file of a volume.
type File struct {
	// Path is relative to the mount point, with slashes.
	Path string
	Data []byte
	// Mode is the file's permission bits.
	Mode int32
}

// RegistryCredential opens an image registry.
type RegistryCredential struct{ Server, Username, Password string }

// DNS is a resolver configuration.
type DNS struct {
	// Default is whether it is the cluster's alone, which every pod gets that names
	// none.
	Default               bool
	Nameservers, Searches []string
	Options               []corev1.PodDNSConfigOption
}

// Group is a container group as a cloud reports it.
type Group struct {
	// ID is what Get, Delete and Logs take; Name is the cloud's display name.
	ID, Name string
	Owner    Owner
	// CreatedAt is the cloud's time of creation, zero where it tells none.
	CreatedAt time.Time
	// Deleting is true while an accepted deletion is under way.
	Deleting bool
	// Mark, if not empty, differs from that of an earlier answer when something
	// about the group has changed that a listing tells although it does not carry
	// the Status.
	Mark string
	// Status is nil where the answer did not carry it (see Provider.List). Nobody
	// changes what it points to: answers may share it.
	Status *GroupStatus
}

// GroupPhase is the state of a group as a whole, in Kubernetes' terms.
type GroupPhase string

// The phases of a group.
const (
	GroupPending   GroupPhase = "Pending"
	GroupRunning   GroupPhase = "Running"
	GroupSucceeded GroupPhase = "Succeeded"
	GroupFailed    GroupPhase = "Failed"
)

// GroupStatus is the state of a group.
type GroupStatus struct {
	Phase GroupPhase
	// Reason and Message are set when the cloud gave them, such as NoStock.
	Reason, Message string
	// Refused is OutOfStock, NoSuchStock or QuotaExceeded when the group failed because
	// the cloud, having accepted it, found no room for it; empty otherwise. No container of it
	// has run.
	Refused ErrorClass
	// Reclaimed is whether the group failed because the cloud took its machine
	// away, as it does with spot instances.
	Reclaimed bool
	// ReclaimNotice is what the cloud said when it announced that it will do so soon;
	// empty while it has not.
	ReclaimNotice string
	// Spot is whether the cloud may take the group's machine away at any time, and
	// gives it another. Displaced is whether it has none at present: every container
	// waits, and for no reason of its own. So it is too before the first one runs.
	Spot, Displaced bool
	PodIP           string
	// CPU and Memory are the sizes that the cloud bills, zero where unknown.
	CPUMillis   int64
	MemoryBytes int64
	// InitContainers and Containers are in Kubernetes' form, in the order of
	// the pod; sidecars are among either. A state that the cloud does not report is
	// Waiting.
	InitContainers []corev1.ContainerStatus
	Containers     []corev1.ContainerStatus
	Events         []Event
}

// Event is something that the cloud says happened to a group.
type Event struct {
	// Warning tells an Event of type Warning from one of type Normal.
	Warning         bool
	Reason, Message string
	// Container is empty for an event of the whole group.
	Container   string
	Count       int32
	First, Last time.Time
}

// LogOptions selects what Logs returns, as the kubelet's query does. The zero
// value is everything the cloud keeps.
type LogOptions struct {
	// Tail is how many lines from the end; zero means all.
	Tail int
	// LimitBytes bounds the answer; zero means no bound.
	LimitBytes int
	// Timestamps prefixes each line with its time.
	Timestamps bool
	// Since leaves out what is older; zero means from the start.
	Since time.Time
	// Previous asks for the container's previous run.
	Previous bool
}
