package vnode

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// missing decides about a pod that has run and of whose group this run of the agent
// knows nothing, as after a start. Listings alone do not end it, though they are
// complete: an index of the cloud may lag behind, and what it lacks goes on running.
func (r *reconciler) missing(ctx context.Context, uid types.UID, v view) (time.Duration, error) {
	if v.absent < sightings {
		r.sweepSoon()
		return r.cfg.FastInterval, nil
	}
	g, err := r.seek(ctx, uid, v)
	switch {
	case err != nil:
		return 0, err
	case g == nil:
		return 0, r.vanished(ctx, uid, v)
	}
	if v = r.look(uid); len(v.groups) == 0 {
		return r.cfg.FastInterval, nil // it was found gone meanwhile
	}
	return r.followGroup(ctx, uid, v)
}

// seek asks the cloud about the group of one pod, and notes what it finds. Nil means
// that there is none, by the word of the cloud or, where it has no such answer, by
// that of its listings.
func (r *reconciler) seek(ctx context.Context, uid types.UID, v view) (*providers.Group, error) {
	finder, ok := r.provider.(providers.Finder)
	if !ok {
		return nil, nil
	}
	ctx = quota.With(ctx, quota.Confirming)
	g, err := r.ask("Find", uid, string(uid), func() (*providers.Group, error) { return finder.Find(ctx, string(uid)) })
	if g != nil {
		r.log.Warn("listings of the cloud lack a group that exists", "pod", v.pod.Namespace+"/"+v.pod.Name, "uid", uid, "group", g.ID)
	}
	return g, err
}

// gone tells whether a group that was made for the pod before, by whatever run of the
// agent, is known not to exist any more: this run has seen it vanish, or the refusal of
// another one, which follows a direct look, came after listings without it.
func (v *view) gone(refusal error) bool {
	var e *providers.Error
	return errors.As(refusal, &e) && e.Spent && (v.lost > 0 || v.absent >= sightings)
}
