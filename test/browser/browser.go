// Package browser finds a browser without a screen for tests of web pages.
package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Package is the Debian package that is installed where there is no browser.
const Package = "chromium-headless-shell"

// names are the programs that will do, the smallest first.
var names = []string{"chromium-headless-shell", "headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"}

// Variable names a browser to take instead of looking for one.
const Variable = "BROWSER_FOR_TESTS"

// Find returns the path of a browser that speaks Chrome's DevTools protocol. Where
// there is none it installs one with apt-get, if it may, and otherwise fails with the
// command to run. It tells on out that it installs.
func Find(ctx context.Context, out io.Writer) (string, error) {
	if path := os.Getenv(Variable); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("the browser that %s names: %w", Variable, err)
		}
		return found, nil
	}
	if path := look(); path != "" {
		return path, nil
	}
	const command = "apt-get update && apt-get install -y --no-install-recommends " + Package
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", fmt.Errorf("none of %s is on the PATH, and only root on Debian can install one here: run '%s' as root, or set %s to a Chrome", strings.Join(names, ", "), command, Variable)
	}
	fmt.Fprintln(out, "browser: installing", Package)
	if err := install(ctx); err != nil {
		return "", fmt.Errorf("installing a browser with '%s': %w", command, err)
	}
	path := look()
	if path == "" {
		return "", errors.New("the Debian package " + Package + " is installed and brought none of " + strings.Join(names, ", "))
	}
	return path, nil
}

func look() string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// install tries the lists that are there before it gets new ones.
func install(ctx context.Context) error {
	add := []string{"install", "-y", "-q", "--no-install-recommends", Package}
	first := apt(ctx, add...)
	if first == nil {
		return nil
	}
	if err := apt(ctx, "update", "-q"); err != nil {
		return errors.Join(first, err)
	}
	return apt(ctx, add...)
}

// apt waits for another apt-get to end: tests of several packages may install at once.
func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
	}
	return nil
}
