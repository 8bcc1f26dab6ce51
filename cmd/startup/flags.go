package startup

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
)

// Flags are the flags of a program, in groups as its help shows them.
type Flags struct {
	program, about string
	groups         []*pflag.FlagSet
}

// NewFlags makes flags without any. About is what the program does, in a sentence
// for its help.
func NewFlags(program, about string) *Flags {
	return &Flags{program: program, about: about}
}

// Group begins a group of flags.
func (f *Flags) Group(name string) *pflag.FlagSet {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	set.SortFlags = false
	f.groups = append(f.groups, set)
	return set
}

// Parse reads the command line, which must have flags only. A request for help
// is pflag.ErrHelp; every other error says in one line what is wrong with which
// flag.
func (f *Flags) Parse(args []string) error {
	all := pflag.NewFlagSet(f.program, pflag.ContinueOnError)
	all.SetOutput(io.Discard)
	all.Usage = func() {}
	for _, set := range f.groups {
		all.AddFlagSet(set)
	}
	if err := all.Parse(args); err != nil {
		return f.explain(err)
	}
	if rest := all.Args(); len(rest) > 0 {
		return fmt.Errorf("argument %q is not understood: every setting is a flag, written --NAME=VALUE; see %s --help", rest[0], f.program)
	}
	return nil
}

func (f *Flags) explain(err error) error {
	var unknown *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		dashes := "--"
		if unknown.GetSpecifiedShortnames() != "" {
			dashes = "-"
		}
		return fmt.Errorf("there is no flag %s%s: see %s --help", dashes, unknown.GetSpecifiedName(), f.program)
	case errors.As(err, &bare):
		return fmt.Errorf("--%s has no value: write --%[1]s=VALUE", bare.GetFlag().Name)
	case errors.As(err, &invalid):
		flag := invalid.GetFlag()
		return fmt.Errorf("--%s is %q: write %s", flag.Name, invalid.GetValue(), kinds[flag.Value.Type()])
	}
	return err
}

// kinds are the values that flags of a type take.
var kinds = map[string]string{
	"bool":     "true or false",
	"duration": "a time such as 90s",
	"float64":  "a number",
	"int":      "a whole number",
}

// helpColumns is how wide the help is.
const helpColumns = 110

// Usage writes the help: every flag with its default and what it is for.
func (f *Flags) Usage(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nUsage:\n  %s [flags]\n", f.about, f.program)
	for _, set := range f.groups {
		fmt.Fprintf(w, "\n%s:\n%s", set.Name(), set.FlagUsagesWrapped(helpColumns))
	}
}
