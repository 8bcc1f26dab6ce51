package vnode

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy/burstable"
)

// noteAsked remembers the annotations with which a pod's group is asked for. While it is
// open whether an earlier request has made the group, those of that one stay.
func (r *reconciler) noteAsked(uid types.UID, annotations map[string]string) {
	asked := r.forCloud(annotations)
	r.change(uid, func(rec *record) {
		if rec.asked == nil || rec.doubt.IsZero() {
			rec.asked = asked
		}
	})
}

// tellLate says of each annotation for the cloud that has come, changed or gone since the
// pod's group was asked for that it has no effect: so it is where a policy's podMetadata
// is written late, as the webhook was away, and where a person annotates a pod that runs.
// What came before the agent started counts as if the group had been made with it.
func (r *reconciler) tellLate(uid types.UID, pod *corev1.Pod) {
	bears := r.forCloud(pod.Annotations)
	var asked map[string]string
	r.change(uid, func(rec *record) { asked, rec.asked = rec.asked, bears })
	if asked == nil || maps.Equal(asked, bears) {
		return
	}
	either := maps.Clone(asked)
	maps.Copy(either, bears)
	for _, key := range slices.Sorted(maps.Keys(either)) {
		was, had := asked[key]
		is, has := bears[key]
		if was == is && had == has {
			continue
		}
		done := "was set"
		switch {
		case !has:
			done = "was taken away"
		case had:
			done = "was changed"
		}
		r.events.pod(pod, occurrence{warning: true, reason: reasonRunsWithout, key: key + done + is, message: fmt.Sprintf(
			"The annotation %s %s after the pod's container group had been asked for, and %s reads it only then: it has no effect on this pod. Put it into the pod's template, and let the pod be replaced.",
			key, done, r.provider.Name())})
	}
}

// forCloud are the annotations that the cloud reads; never nil.
func (r *reconciler) forCloud(annotations map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range annotations {
		if burstable.ReadsAnnotation(r.provider.Name(), key) {
			out[key] = value
		}
	}
	return out
}
