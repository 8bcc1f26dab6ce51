// Package rights compares the rights that the chart grants with those that the
// programs use. The API server's audit log tells both: which Roles and bindings
// there were in the course of a run, and every request that a ServiceAccount of
// the release made, with its verdict. What was refused is a right that is
// missing; a right of a Role that no request needed is one too many.
package rights
