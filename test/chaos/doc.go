// Package chaos runs random workloads on both virtual nodes under random faults
// and kills of the agents, lets things settle, and judges from the outside: by
// what the API server told everybody who watched, and by the clouds' own records
// of what they billed and ran.
//
// A plan is pure: the same seed gives the same rounds. Processes, a scheduler and
// a network are in between, so that what a plan leads to differs a little each
// time; its steps wait for what can be observed, such as the cloud having
// accepted a create, and not for times. See docs/chaos.md.
package chaos
