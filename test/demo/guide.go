package main

import (
	"context"
	"errors"
)

func guide(ctx context.Context, root string, o options, screen *screen) error {
	return errors.New("not yet")
}
