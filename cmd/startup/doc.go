// Package startup is what the programs of Autoburst do before they begin: it
// reads their flags, and finds out whether the API server can be reached, is new
// enough and lets them do their work. What is wrong is told in one line, and
// nothing has been changed by then.
package startup
