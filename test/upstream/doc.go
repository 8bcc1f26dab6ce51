// Package upstream compares what the agent makes of a pod with Kubernetes' own code:
// environment and files with the kubelet's, and whole pods with what the API server
// admits. It is a module of its own, since k8s.io/kubernetes is no library.
package upstream
