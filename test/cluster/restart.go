package cluster

import (
	"context"
	"errors"
	"slices"
)

// apiServer is the name of the API server's process.
const apiServer = "kube-apiserver"

// StopAPIServer kills the API server, as the loss of its machine would. The
// other programs run on and try again; etcd keeps what was written.
func (c *Cluster) StopAPIServer() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.processes {
		if p.Name == apiServer {
			// Before it ends: its end is no failure.
			c.processes = slices.Delete(c.processes, i, i+1)
			p.Kill()
			return nil
		}
	}
	return errors.New("the API server does not run")
}

// StartAPIServer starts an API server that was stopped, on the same port and
// data, and returns when it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if c.Process(apiServer) != nil {
		return errors.New("the API server runs already")
	}
	if err := c.run(apiServer, c.apiServerArgs...); err != nil {
		return err
	}
	return c.waitReady(ctx)
}
