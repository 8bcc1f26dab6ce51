package controller

import (
	corev1 "k8s.io/api/core/v1"
)

// bell wakes a loop. Rings while it is awake are remembered as one.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// rulesListener rings when the rules changed, and hears nothing else.
type rulesListener struct{ bell bell }

func (rulesListener) PodPending(*corev1.Pod)         {}
func (rulesListener) PodSettled(*corev1.Pod, string) {}
func (rulesListener) RoomShrank(string)              {}
func (l rulesListener) RulesChanged()                { l.bell.ring() }
