package providers

import "context"

type permitKey struct{}

// WithPermit returns a context under which nothing is changed once permit returns
// an error. Providers ask it right before each request that would change something,
// after all that they wait for: a caller may lose the right to act while its call
// waits for a connection, or while its process stands still.
func WithPermit(ctx context.Context, permit func() error) context.Context {
	return context.WithValue(ctx, permitKey{}, permit)
}

// Permitted is the answer of the context's permit, nil where it has none.
func Permitted(ctx context.Context) error {
	if permit, ok := ctx.Value(permitKey{}).(func() error); ok {
		return permit()
	}
	return nil
}

// NotPermitted is the error of an operation that was not asked of the cloud because
// the context's permit said why not; nil where it did not.
func NotPermitted(ctx context.Context, operation string) *Error {
	err := Permitted(ctx)
	if err == nil {
		return nil
	}
	return &Error{Class: Unavailable, Operation: operation, Code: "NotPermitted", Message: "nothing was sent: " + err.Error()}
}
