package playground

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
)

// Command is a program with the settings that the chart gives it, not started.
type Command struct {
	Path      string
	Args, Env []string
}

// ControllerCommand is how a replica of the controller is run.
func (p *Playground) ControllerCommand(ctx context.Context) (Command, error) {
	return p.commandOf(ctx, p.programs.controller, func(d appsv1.Deployment) bool {
		return d.Labels["app.kubernetes.io/component"] == "controller"
	})
}

// AgentCommand is how the agent of a virtual node is run.
func (p *Playground) AgentCommand(ctx context.Context, node string) (Command, error) {
	return p.commandOf(ctx, p.programs.agent, func(d appsv1.Deployment) bool { return d.Labels["autoburst.io/virtual-node"] == node })
}

func (p *Playground) commandOf(ctx context.Context, path string, match func(appsv1.Deployment) bool) (Command, error) {
	d, err := p.deployment(ctx, match)
	if err != nil {
		return Command{}, err
	}
	args, env, err := p.command(ctx, d, nil, d.Name)
	return Command{Path: path, Args: args, Env: env}, err
}
