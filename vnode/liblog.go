package vnode

import (
	"context"
	"fmt"
	"log/slog"

	vklog "github.com/virtual-kubelet/virtual-kubelet/log"
)

// UseLibraryLogger sends what the virtual-kubelet library logs to a logger. The
// library has one logger for the whole process.
func UseLibraryLogger(log *slog.Logger) {
	vklog.L = libraryLogger{log.With("library", "virtual-kubelet")}
}

type libraryLogger struct{ log *slog.Logger }

func (l libraryLogger) put(level slog.Level, args ...any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprint(args...))
	}
}

func (l libraryLogger) putf(level slog.Level, format string, args ...any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, args...))
	}
}

func (l libraryLogger) Debug(args ...any)            { l.put(slog.LevelDebug, args...) }
func (l libraryLogger) Debugf(f string, args ...any) { l.putf(slog.LevelDebug, f, args...) }
func (l libraryLogger) Info(args ...any)             { l.put(slog.LevelInfo, args...) }
func (l libraryLogger) Infof(f string, args ...any)  { l.putf(slog.LevelInfo, f, args...) }
func (l libraryLogger) Warn(args ...any)             { l.put(slog.LevelWarn, args...) }
func (l libraryLogger) Warnf(f string, args ...any)  { l.putf(slog.LevelWarn, f, args...) }
func (l libraryLogger) Error(args ...any)            { l.put(slog.LevelError, args...) }
func (l libraryLogger) Errorf(f string, args ...any) { l.putf(slog.LevelError, f, args...) }

// Fatal does not end the process: what the library cannot do, its caller hears
// as an error.
func (l libraryLogger) Fatal(args ...any)            { l.put(slog.LevelError, args...) }
func (l libraryLogger) Fatalf(f string, args ...any) { l.putf(slog.LevelError, f, args...) }

func (l libraryLogger) WithField(name string, v any) vklog.Logger {
	return libraryLogger{l.log.With(name, v)}
}

func (l libraryLogger) WithFields(fields vklog.Fields) vklog.Logger {
	log := l.log
	for _, name := range sorted(fields) {
		log = log.With(name, fields[name])
	}
	return libraryLogger{log}
}

func (l libraryLogger) WithError(err error) vklog.Logger {
	return libraryLogger{l.log.With("error", err)}
}
