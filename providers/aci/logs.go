package aci

import (
	"bufio"
	"context"
	"io"
	"math"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"

	"github.com/autoburst/autoburst/providers"
)

// Logs returns what a container has printed in its present run: the newest 4 MB
// while it runs, the newest 16 KB or 1000 lines after its end. The service keeps
// no log of an earlier run; to ask for one is an Unsupported error.
func (p *Provider) Logs(ctx context.Context, id, container string, opts providers.LogOptions) (io.ReadCloser, error) {
	if opts.Previous {
		return nil, &providers.Error{
			Operation: opLogs.name, Class: providers.Unsupported,
			Message: "Azure Container Instances keeps no log of a container's previous run; ask without --previous",
		}
	}
	request := &sdk.ContainersClientListLogsOptions{}
	if opts.Tail > 0 {
		request.Tail = to.Ptr(int32(min(opts.Tail, math.MaxInt32)))
	}
	// The service cannot select by time, but it can tell it. The last lines of
	// what is new enough are the new enough of the last lines.
	if opts.Timestamps || !opts.Since.IsZero() {
		request.Timestamps = to.Ptr(true)
	}
	var content string
	err := p.do(ctx, opLogs, nil, func(ctx context.Context, s *session) error {
		resp, err := s.containers.ListLogs(ctx, p.config.ResourceGroup, id, container, request)
		content = value(resp.Content)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !opts.Since.IsZero() {
		content = since(content, opts.Since, opts.Timestamps)
	}
	if opts.LimitBytes > 0 && len(content) > opts.LimitBytes {
		content = content[:opts.LimitBytes]
	}
	return io.NopCloser(strings.NewReader(content)), nil
}

// since drops the lines of content that are older than t. A line without a time
// belongs to the one before it.
func since(content string, t time.Time, timestamps bool) string {
	var kept strings.Builder
	keep := false
	reader := bufio.NewReader(strings.NewReader(content))
	for {
		line, err := reader.ReadString('\n')
		if line != "" {
			stamp, rest, found := strings.Cut(line, " ")
			if !found { // an empty line, after its time
				stamp, rest = strings.TrimSuffix(line, "\n"), "\n"
			}
			at, bad := time.Parse(time.RFC3339Nano, stamp)
			if bad != nil {
				rest = line
			} else {
				keep = !at.Before(t)
			}
			switch {
			case !keep:
			case timestamps:
				kept.WriteString(line)
			default:
				kept.WriteString(rest)
			}
		}
		if err != nil {
			return kept.String()
		}
	}
}
