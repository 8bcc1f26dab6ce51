package runc

import (
	"context"
	"fmt"

	"github.com/autoburst/autoburst/test/debian"
)

// Programs gets runc and busybox from Debian's packages, unpacked below a folder of
// the cache. The one library that runc needs is part of every Debian, as apt needs it.
func Programs(ctx context.Context, cache string) (o Options, err error) {
	tree, err := debian.Extract(ctx, cache, "runc", "busybox-static")
	if err != nil {
		return o, fmt.Errorf("runc: %w", err)
	}
	if o.Program, err = tree.Program("runc"); err != nil {
		return o, fmt.Errorf("runc: %w", err)
	}
	if o.Busybox, err = tree.Program("busybox"); err != nil {
		return o, fmt.Errorf("runc: %w", err)
	}
	return o, nil
}
