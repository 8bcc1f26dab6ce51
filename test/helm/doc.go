// Package helm renders the chart by Helm's library: whatever its values may be, in
// milliseconds and without a cluster. What becomes of it on a real API server is for
// package test/chart. Its module holds helm-unittest and Helm 3, too.
package helm
