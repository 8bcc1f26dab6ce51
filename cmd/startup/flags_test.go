package startup

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func testFlags() (*Flags, *time.Duration) {
	f := NewFlags("program", "program does nothing.")
	f.Group("First").Bool("on", false, "whether it is on")
	second := f.Group("Second")
	second.Int("count", 3, "how many")
	second.Float64("rate", 1, "how many a second")
	return f, second.Duration("wait", time.Minute, "how long")
}

func TestFlagsSayWhatIsWrong(t *testing.T) {
	for arg, want := range map[string]string{
		"--nothing":    "there is no flag --nothing: see program --help",
		"-n":           "there is no flag -n: see program --help",
		"--wait":       "--wait has no value: write --wait=VALUE",
		"--wait=long":  `--wait is "long": write a time such as 90s`,
		"--count=1.5":  `--count is "1.5": write a whole number`,
		"--rate=fast":  `--rate is "fast": write a number`,
		"--on=perhaps": `--on is "perhaps": write true or false`,
		"run":          `argument "run" is not understood: every setting is a flag, written --NAME=VALUE; see program --help`,
	} {
		t.Run(arg, func(t *testing.T) {
			f, _ := testFlags()
			if err := f.Parse([]string{arg}); err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	f, wait := testFlags()
	if err := f.Parse([]string{"--on", "--wait=2s"}); err != nil {
		t.Fatal(err)
	}
	if *wait != 2*time.Second {
		t.Errorf("wait is %v", *wait)
	}
	if err := f.Parse([]string{"--help"}); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("error %v, want pflag.ErrHelp", err)
	}
	var help strings.Builder
	f.Usage(&help)
	for _, want := range []string{"program does nothing.\n", "\nFirst:\n", "\nSecond:\n", "how long (default 1m0s)"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("the help lacks %q:\n%s", want, help.String())
		}
	}
}

func TestAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		addresses []Address
		want      string // none when empty
	}{
		"apart":        {addresses: []Address{{"--a", ":80"}, {"--b", "127.0.0.1:81"}, {"--c", "[::1]:82"}, {"--d", "localhost:83"}}},
		"not used":     {addresses: []Address{{"--a", ""}, {"--b", ":80"}}},
		"no port":      {addresses: []Address{{"--a", "127.0.0.1"}}, want: `--a is "127.0.0.1": write IP:PORT or :PORT`},
		"port zero":    {addresses: []Address{{"--a", ":0"}}, want: `--a is ":0"`},
		"no address":   {addresses: []Address{{"--a", "pod:80"}}, want: `--a is "pod:80"`},
		"the same one": {addresses: []Address{{"--a", ":80"}, {"--b", "127.0.0.1:80"}}, want: `--b is "127.0.0.1:80": --a has the same port`},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckAddresses(test.addresses...)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestTakenAddress(t *testing.T) {
	l, err := Listen(t.Context(), Address{"--first", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := CheckFree(t.Context(), Address{"--second", l.Addr().String()}); err == nil || !strings.Contains(err.Error(), "--second") || !strings.Contains(err.Error(), "another program listens") {
		t.Errorf("error %v", err)
	}
}
