package harden

// Hidden holds a secret where no printer finds it. Opaque alone is not enough:
// fmt asks the methods of a value only where it may call them, and walks the
// unexported fields of any struct around it byte by byte, with some verbs even
// through a pointer. It cannot look into a function.
type Hidden[T any] struct{ get func() *T }

// Hide returns a holder of v, which stays where it is.
func Hide[T any](v *T) Hidden[T] { return Hidden[T]{get: func() *T { return v }} }

// Get returns the secret, or nil from a zero holder.
func (h Hidden[T]) Get() *T {
	if h.get == nil {
		return nil
	}
	return h.get()
}
