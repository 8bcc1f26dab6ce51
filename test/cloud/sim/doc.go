// Package sim is the life of container groups in an emulated serverless
// container cloud, independent of the wire protocol that shows it.
//
// A Fleet holds groups. A Group is scheduled, pulls its images, runs its init
// containers in order and then its containers, restarts them as its restart
// policy says with the back-off of Kubernetes, and ends. A container is a
// simulated process unless Config.Containers runs it in a container of its own, or
// Config.HostCommands lets a few harmless programs run as real processes of this
// host. It uses CPU and memory: a simulated process what Fleet.SetLoad says, a real
// one what the kernel counts for it.
//
// All state is a function of the clock: every read first carries out whatever
// was due, at the time it was due. A test with a fake clock therefore steps
// the clock and reads, without waiting for anything (real processes excepted).
package sim
