//go:build !race

package admission

// stride is which part of the many pods of a test is tried: one in so many.
const stride = 1
