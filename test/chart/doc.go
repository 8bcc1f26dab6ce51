// Package chart tests the life of a release of the chart, as its users lead it:
// install, test, upgrade, rollback and uninstall with Helm on a real API server
// that holds the namespace to restricted Pod Security. The pods of the release run
// for real: a kubelet of its own starts their programs as processes, with the
// arguments, environment, ServiceAccount, probes and hooks that the pods say, and
// the API server reaches the webhook through its Service, as far as endpoints are
// ready.
package chart
