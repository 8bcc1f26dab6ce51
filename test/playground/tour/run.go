package tour

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/autoburst/autoburst/test/playground/live"
	"github.com/autoburst/autoburst/test/playground/session"
)

const (
	// settleTime bounds how long a command may take to have its effect.
	settleTime = 2 * time.Minute
	settleTick = 200 * time.Millisecond
)

// Guide leads through the steps.
type Guide struct {
	// Root is the checkout, Session the playground.
	Root    string
	Session session.Published
	// Out is told everything. With In, the guide waits for Enter before each step.
	Out io.Writer
	In  io.Reader
	// Emphasis marks a text for people, such as the title of a step; nil leaves it.
	Emphasis func(string) string
}

// Result is what a step printed.
type Result struct {
	Step
	// Outputs are the outputs of the commands.
	Outputs []string
}

// errLeft says that whoever is led has left.
var errLeft = errors.New("the tour was left")

// IsLeft tells whether the tour ended because whoever is led has left it.
func IsLeft(err error) bool { return errors.Is(err, errLeft) }

// Run goes through the steps and checks each.
func (g *Guide) Run(ctx context.Context, steps []Step) ([]Result, error) {
	if g.Emphasis == nil {
		g.Emphasis = func(s string) string { return s }
	}
	if err := g.await(ctx, "in the beginning no pod is there", places(0, 0, 0), 5*time.Second); err != nil {
		return nil, fmt.Errorf("the tour begins with a playground in which nothing runs: %w; delete what you made, or start another playground", err)
	}
	var keys *bufio.Scanner
	if g.In != nil {
		keys = bufio.NewScanner(g.In)
	}
	var results []Result
	for i, step := range steps {
		fmt.Fprintf(g.Out, "\n%s\n%s\n", g.Emphasis(fmt.Sprintf("%d/%d  %s", i+1, len(steps), step.Title)), wrap(step.Why))
		if keys != nil {
			for _, c := range step.Commands {
				fmt.Fprintf(g.Out, "  $ %s\n", c.Line)
			}
			fmt.Fprint(g.Out, "\nEnter runs it, q leaves the tour. ")
			if !keys.Scan() || strings.TrimSpace(keys.Text()) == "q" {
				return results, errLeft
			}
		}
		result := Result{Step: step}
		for _, c := range step.Commands {
			output, err := g.run(ctx, c)
			if err != nil {
				return results, fmt.Errorf("step %q: %s: %w", step.Title, c.Line, err)
			}
			result.Outputs = append(result.Outputs, output)
		}
		results = append(results, result)
		fmt.Fprintf(g.Out, "\n%s\n", wrap(step.Look))
	}
	return results, nil
}

func (g *Guide) run(ctx context.Context, c Command) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", c.Line)
	cmd.Dir = g.Root
	cmd.Env = append(os.Environ(), "KUBECONFIG="+g.Session.Kubeconfig, "PATH="+g.Session.Bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	fmt.Fprintf(g.Out, "\n%s\n%s", g.Emphasis("$ "+c.Line), out)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	if c.Settled == nil {
		return string(out), nil
	}
	return string(out), g.await(ctx, "it has had its effect", c.Settled, settleTime)
}

// await waits until a condition holds.
func (g *Guide) await(ctx context.Context, what string, settled func(live.State) error, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(settleTick)
	defer tick.Stop()
	var last error
	for {
		state, err := g.state(ctx)
		if err == nil {
			err = settled(state)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting %s until %s: %w", patience, what, errors.Join(last, ctx.Err()))
		}
	}
}

func (g *Guide) state(ctx context.Context) (live.State, error) {
	var s live.State
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.Session.URL+"/api/state", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, fmt.Errorf("asking the playground: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("asking the playground: %s", resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// wrap breaks a text into lines for people.
func wrap(text string) string {
	const width = 100
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return strings.Join(append(lines, line), "\n")
}
