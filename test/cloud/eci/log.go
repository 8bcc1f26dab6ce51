package eci

import (
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// maxLogAnswer bounds the content of one log answer.
const maxLogAnswer = 1 << 20

// describeLog is DescribeContainerLog.
func (s *Server) describeLog(c *call) (map[string]any, *apiError) {
	req, limits := c.members, published().facts.Limits
	g, refusal := s.find(c)
	if refusal != nil {
		return nil, refusal
	}
	if phase := g.phase(); s.opts.LogNeedsRunning && phase != sim.Running {
		return nil, refuse(400, "IncorrectStatus", "The container group is %s, not Running.", phase)
	}
	o := sim.LogOptions{Previous: req.boolean("LastTime"), Tail: limits.LogTailDefault}
	if req.has("Tail") {
		o.Tail = req.integer("Tail")
		if o.Tail < 1 || o.Tail > limits.LogTailMax {
			return nil, invalidParameter("Tail must be 1 to %d.", limits.LogTailMax)
		}
	}
	if req.has("SinceSeconds") {
		if req.integer("SinceSeconds") < 1 {
			return nil, invalidParameter("SinceSeconds must be at least 1.")
		}
		o.Since = s.fleet.Now().Add(-time.Duration(req.integer("SinceSeconds")) * time.Second)
	}
	if text := req.str("StartTime"); text != "" {
		at, err := time.Parse("2006-01-02T15:04:05Z", text)
		if err != nil {
			return nil, invalidParameter("StartTime must be an RFC 3339 time in UTC with seconds, such as 2018-08-02T15:00:00Z.")
		}
		if at.After(o.Since) {
			o.Since = at
		}
	}
	limit := 0
	if req.has("LimitBytes") {
		if limit = req.integer("LimitBytes"); limit < 1 || limit > maxLogAnswer {
			return nil, invalidParameter("LimitBytes must be 1 to %d.", maxLogAnswer)
		}
	}
	name := req.str("ContainerName")
	lines, err := g.live.Logs(name, o)
	if err != nil {
		return nil, invalidParameter("The container group %s has no container %q.", g.id, clip(name))
	}
	return map[string]any{"ContainerName": name, "Content": logContent(lines, req.boolean("Timestamps"), limit)}, nil
}

// logContent is the text of lines. One answer holds the newest maxLogAnswer
// bytes of it; an explicit limit keeps the first bytes, as the kubelet's does.
func logContent(lines []sim.LogLine, timestamps bool, limit int) string {
	text := sim.JoinLines(lines, timestamps)
	if len(text) > maxLogAnswer {
		text = text[len(text)-maxLogAnswer:]
	}
	if limit > 0 && len(text) > limit {
		text = text[:limit]
	}
	return text
}
