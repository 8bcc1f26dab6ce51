package chaos

import "time"

// scene arranges what a round makes with faults and kills that hit it at a
// chosen moment. made[0] is always a pod of its own. A scene makes all of it.
type scene func(d *dice, made []Workload) []Step

// scenes are equally frequent; a name that comes twice is to come twice as often.
var scenes = []scene{
	calm, calm,
	createAnswerLost, createAnswerLost, createAnswerLost,
	createLostBeforeEffect,
	createTakesEffectLate, createTakesEffectLate,
	killedDuringCreate,
	killedDuringCreate,
	createLostWithoutLists, createLostWithoutLists,
	killedDuringDelete,
	deleteAnswerLost,
	restartedBlind,
	restartedBlind,
	halfAList, halfAList,
	listsForget, listsForget, listsForget,
	restartedAmongLies, restartedAmongLies,
	pausedWhilePodsChange,
	recreatedAtOnce,
	recreatedAtOnce,
	outageOfOneCloud,
	noRoom,
	platformActs,
	credentialsRotated,
	bothAgentsGone,
	deafToPods,
	deafToPods,
}

func makeAll(made []Workload) []Step {
	var steps []Step
	for i := range made {
		steps = append(steps, Step{Do: Create, Cloud: made[i].Cloud, Name: made[i].Name, Workload: &made[i]})
	}
	return steps
}

// calm makes things, and something happens to a pod that runs.
func calm(d *dice, made []Workload) []Step {
	steps := makeAll(made)
	pod := made[0]
	switch d.IntN(4) {
	case 0:
		steps = append(steps, Step{After: Started, Of: pod.Name, Do: pick(d, Delete, Force, Evict), Cloud: pod.Cloud, Name: pod.Name})
	case 1:
		steps = append(steps, Step{After: Accepted, Of: pod.Name, Do: pick(d, Delete, Force), Cloud: pod.Cloud, Name: pod.Name})
	case 2:
		if w, ok := d.earlier(Job); ok {
			steps = append(steps, Step{Do: Delete, Cloud: w.Cloud, Name: w.Name, Mode: string(Job)})
		}
	}
	return steps
}

// createAnswerLost has the cloud act and the agent not hear of it, once or
// several times in a row; perhaps lists do not tell it either, or the pod is gone
// before the agent asks again.
func createAnswerLost(d *dice, made []Workload) []Step {
	pod := made[0]
	steps := append([]Step{{Do: CutAfter, Cloud: pod.Cloud, Call: CreateCall, Calls: 1 + d.IntN(3)}}, makeAll(made)...)
	if !d.chance(4) {
		lists := Step{Do: Error, Cloud: pod.Cloud, Call: ListCall, Calls: 3 + d.IntN(4)}
		steps = append([]Step{lists}, steps...)
	}
	if d.chance(4) {
		steps = append(steps, Step{After: Accepted, Of: pod.Name, Do: pick(d, Delete, Force, Recreate), Cloud: pod.Cloud, Name: pod.Name})
	}
	return steps
}

func createLostBeforeEffect(d *dice, made []Workload) []Step {
	return append([]Step{{Do: CutFirst, Cloud: made[0].Cloud, Call: CreateCall, Calls: 1 + d.IntN(2)}}, makeAll(made)...)
}

// createLostWithoutLists has lists fail for longer than an answer that was lost keeps
// the agent from asking ACI again.
func createLostWithoutLists(_ *dice, made []Workload) []Step {
	pod := made[0]
	return append([]Step{
		{Do: Outage, Cloud: pod.Cloud, For: 12 * time.Second, Mode: ofLists},
		{Do: CutAfter, Cloud: pod.Cloud, Call: CreateCall, Calls: 1},
	}, makeAll(made)...)
}

// createTakesEffectLate has a create act when the agent has given up on it, and
// perhaps has asked again, or has no pod for it any more.
func createTakesEffectLate(d *dice, made []Workload) []Step {
	pod := made[0]
	steps := append([]Step{{Do: LateCall, Cloud: pod.Cloud, Call: CreateCall, Calls: 1, For: callTimeout + d.millis(1300, 3500)}}, makeAll(made)...)
	if d.chance(4) {
		steps = append(steps, Step{Do: pick(d, Delete, Force, Recreate), Cloud: pod.Cloud, Name: pod.Name, Mode: pick(d, "", "force")})
	}
	return steps
}

// killedDuringCreate kills the agent between the effect and the answer.
func killedDuringCreate(d *dice, made []Workload) []Step {
	pod := made[0]
	steps := append([]Step{{Do: Slow, Cloud: pod.Cloud, Call: CreateCall, Calls: 2, For: d.millis(600, 900)}}, makeAll(made)...)
	steps = append(steps, Step{After: Accepted, Of: pod.Name, Do: pick(d, Kill, Kill, Term), Cloud: pod.Cloud, For: d.millis(0, 600), Mode: pick(d, "", leads)})
	if d.chance(2) {
		steps = append(steps, Step{Do: pick(d, Force, Recreate, Delete), Cloud: pod.Cloud, Name: pod.Name})
	}
	if d.chance(2) {
		steps = append(steps, Step{Do: Error, Cloud: pod.Cloud, Call: ListCall, Calls: 1 + d.IntN(3)})
	}
	return steps
}

// killedDuringDelete kills the agent after the cloud has accepted a delete.
func killedDuringDelete(d *dice, made []Workload) []Step {
	pod := made[0]
	steps := append(makeAll(made), Step{Do: Slow, Cloud: pod.Cloud, Call: DeleteCall, Calls: 2, For: d.millis(500, 900)})
	return append(steps,
		Step{After: Started, Of: pod.Name, Do: pick(d, Delete, Delete, Force), Cloud: pod.Cloud, Name: pod.Name},
		Step{After: Deleting, Of: pod.Name, Do: pick(d, Kill, Term), Cloud: pod.Cloud, For: d.millis(0, 600), Mode: pick(d, "", leads)})
}

func deleteAnswerLost(d *dice, made []Workload) []Step {
	pod := made[0]
	return append(makeAll(made),
		Step{Do: pick(d, CutFirst, CutAfter), Cloud: pod.Cloud, Call: DeleteCall, Calls: 1 + d.IntN(2)},
		Step{After: Started, Of: pod.Name, Do: pick(d, Delete, Force, Recreate), Cloud: pod.Cloud, Name: pod.Name})
}

// restartedBlind starts an agent anew while the cloud's lists fail: it knows
// nothing, and must not take that for nothing being there.
func restartedBlind(d *dice, made []Workload) []Step {
	pod := made[0]
	fault := Step{After: Running, Of: pod.Name, Do: pick(d, Error, Error, Garbled, CutAfter), Cloud: pod.Cloud, Call: ListCall, Calls: 3 + d.IntN(4)}
	if d.chance(2) {
		fault = Step{After: Running, Of: pod.Name, Do: Partial, Cloud: pod.Cloud, Calls: 3 + d.IntN(3)}
	}
	return append(makeAll(made), fault, Step{Do: pick(d, Kill, Term), Cloud: pod.Cloud, For: d.millis(0, 200), Mode: pick(d, "", leads)})
}

// halfAList breaks lists, and perhaps single reads too, under a running agent.
func halfAList(d *dice, made []Workload) []Step {
	pod := made[0]
	steps := append(makeAll(made), Step{After: Running, Of: pod.Name, Do: pick(d, Partial, Garbled), Cloud: pod.Cloud, Calls: 3 + d.IntN(4)})
	if d.chance(2) {
		steps = append(steps, Step{Do: Error, Cloud: pod.Cloud, Call: GetCall, Calls: 2 + d.IntN(4)})
	}
	if d.chance(2) {
		steps = append(steps, Step{Do: Kill, Cloud: pod.Cloud, For: d.millis(0, 200), Mode: pick(d, "", leads)})
	}
	return steps
}

// pausedWhilePodsChange lets the world go on while an agent stands still, perhaps
// for so long that the other one leads when it comes back.
func pausedWhilePodsChange(d *dice, made []Workload) []Step {
	pod := made[0]
	pause := Step{After: pick(d, Accepted, Started), Of: pod.Name, Do: Pause, Cloud: pod.Cloud, For: d.millis(500, 2500)}
	if d.chance(2) {
		pause.For, pause.Mode = d.millis(3000, 6500), leads
	}
	steps := append(makeAll(made), pause)
	return append(steps, Step{Do: pick(d, Force, Recreate, Delete), Cloud: pod.Cloud, Name: pod.Name})
}

// recreatedAtOnce replaces a pod by one of the same name.
func recreatedAtOnce(d *dice, made []Workload) []Step {
	pod := made[0]
	steps := append(makeAll(made), Step{After: pick(d, Now, Accepted, Started), Of: pod.Name, Do: Recreate, Cloud: pod.Cloud, Name: pod.Name, Mode: pick(d, "", "force")})
	if d.chance(3) {
		steps = append(steps, Step{Do: Recreate, Cloud: pod.Cloud, Name: pod.Name, Mode: "force"})
	}
	return steps
}

// deafToPods keeps the agent from hearing of what happens to pods, or from
// reaching the API server at all.
func deafToPods(d *dice, made []Workload) []Step {
	pod := made[0]
	deaf := Step{After: pick(d, Now, Started), Of: pod.Name, Do: pick(d, HoldWatches, HoldExpired), Cloud: pod.Cloud, For: d.millis(500, 2500), Mode: pick(d, "", leads)}
	if d.chance(3) {
		deaf.Do, deaf.For = APIDown, d.millis(1000, 5000)
	}
	steps := append(makeAll(made), deaf, Step{Do: pick(d, Force, Recreate, Delete), Cloud: pod.Cloud, Name: pod.Name, Mode: pick(d, "", "force")})
	if d.chance(3) {
		steps = append(steps, Step{Do: Kill, Cloud: pod.Cloud, For: d.millis(0, 500), Mode: pick(d, "", leads)})
	}
	return steps
}

// listsForget has lists lack groups that run, and single reads not say otherwise.
func listsForget(d *dice, made []Workload) []Step {
	pod := made[0]
	return append(makeAll(made), Step{After: Running, Of: pod.Name, Do: Forget, Cloud: pod.Cloud, For: d.millis(1300, 1600)})
}

// restartedAmongLies starts an agent anew while lists lack what there is. It has
// nothing else to go by, and must ask for a pod's group before it makes another or
// gives the pod up. It may be too late for a pod that is being deleted.
func restartedAmongLies(d *dice, made []Workload) []Step {
	pod := made[0]
	point := pick(d, Accepted, Accepted, Running)
	steps := makeAll(made)
	if point == Accepted { // and nobody has heard of it
		steps = append([]Step{{Do: Slow, Cloud: pod.Cloud, Call: CreateCall, Calls: 2, For: d.millis(600, 900)}}, steps...)
	}
	steps = append(steps,
		Step{After: point, Of: pod.Name, Do: Kill, Cloud: pod.Cloud, Mode: pick(d, "", leads)},
		Step{Do: Forget, Cloud: pod.Cloud, For: d.millis(6000, 8000), Mode: pick(d, "", honestReads, honestReads)})
	if d.chance(3) {
		steps = append(steps, Step{Do: pick(d, Delete, Recreate), Cloud: pod.Cloud, Name: pod.Name})
	}
	return steps
}

func outageOfOneCloud(d *dice, made []Workload) []Step {
	pod := made[0]
	outage := Step{After: pick(d, Now, Running), Of: pod.Name, Do: Outage, Cloud: pod.Cloud, For: d.millis(500, 3000), Mode: pick(d, "errors", "cut")}
	steps := append(makeAll(made), outage)
	if d.chance(2) {
		steps = append(steps, Step{Do: pick(d, Delete, Force), Cloud: pod.Cloud, Name: pod.Name})
	}
	if d.chance(2) {
		steps = append(steps, Step{Do: Kill, Cloud: pod.Cloud, For: d.millis(0, 500), Mode: pick(d, "", leads)})
	}
	return steps
}

func noRoom(d *dice, made []Workload) []Step {
	return append([]Step{{Do: Shortage, Cloud: made[0].Cloud, For: d.millis(500, 2500), Mode: pick(d, "stock", "quota")}}, makeAll(made)...)
}

func platformActs(d *dice, made []Workload) []Step {
	pod := made[0]
	return append(makeAll(made), Step{After: pick(d, Accepted, Started, Running), Of: pod.Name, Do: pick(d, Vanish, Restart), Cloud: pod.Cloud, Name: pod.Name})
}

func credentialsRotated(d *dice, made []Workload) []Step {
	return append([]Step{{Do: Rotate, Cloud: made[0].Cloud, For: d.millis(300, 1200)}}, makeAll(made)...)
}

func bothAgentsGone(d *dice, made []Workload) []Step {
	steps := append(makeAll(made),
		Step{After: pick(d, Accepted, Running), Of: made[0].Name, Do: Kill, Cloud: eciCloud, For: d.millis(0, 1500)},
		Step{Do: pick(d, Kill, Term), Cloud: aciCloud, For: d.millis(0, 1500)})
	if w, ok := d.earlier(Deployment, StatefulSet); ok {
		steps = append(steps, Step{Do: Scale, Cloud: w.Cloud, Name: w.Name, Count: d.IntN(4), Mode: string(w.Kind)})
	}
	return steps
}
