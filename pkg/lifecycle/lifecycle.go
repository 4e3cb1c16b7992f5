// Package lifecycle starts the parts of a program in order and stops them in reverse order, each
// with a deadline, and joins the errors. It knows nothing about the parts. agentd and hubd use it;
// nobody else should need it.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// DefaultDeadline is how long one part may take to stop when nothing else was said.
const DefaultDeadline = 10 * time.Second

// Stack holds the running parts of a program, in the order in which they were started. Adding parts and stopping them is
// for one goroutine; the parts themselves run in their own.
type Stack struct {
	log   *slog.Logger
	steps []step
	ended chan error // one entry per background part that ended by itself
	base  context.Context

	once sync.Once
	err  error
}

type step struct {
	name     string
	deadline time.Duration
	stop     func(context.Context) error
}

// maxSteps bounds the parts of a program, so that an ending part never waits for somebody to listen.
const maxSteps = 256

// New returns an empty stack. Parts get ctx's values, but not its cancellation: they end in their turn, when Stop reaches them.
func New(ctx context.Context, log *slog.Logger) *Stack {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Stack{log: log, ended: make(chan error, maxSteps), base: context.WithoutCancel(ctx)}
}

// OnStop registers what must happen for a part that has just been started to stop. The context that
// stop gets ends at the deadline (0 means DefaultDeadline); a stop that ignores it is left behind and reported.
func (s *Stack) OnStop(name string, deadline time.Duration, stop func(context.Context) error) {
	if len(s.steps) == maxSteps {
		panic("lifecycle: more than 256 parts")
	}
	if deadline <= 0 {
		deadline = DefaultDeadline
	}
	s.steps = append(s.steps, step{name: name, deadline: deadline, stop: stop})
}

// Go runs a part in a goroutine of its own. Stop cancels its context and waits for it, at most for the deadline. A part that
// ends before that, with or without an error, ends Wait: no part of a program is optional.
func (s *Stack) Go(name string, deadline time.Duration, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(s.base)
	done := make(chan error, 1)
	s.OnStop(name, deadline, func(stopping context.Context) error {
		cancel()
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		case <-stopping.Done():
			return errors.New("still running")
		}
	})
	go func() {
		err := run(ctx)
		if ctx.Err() == nil { // not asked to stop
			if err == nil {
				err = errors.New("ended unexpectedly")
			}
			s.ended <- fmt.Errorf("%s: %w", name, err)
			err = nil // Wait reports it
		}
		done <- err
		cancel()
	}()
}

// Wait blocks until ctx ends, which is the normal end and gives nil, or until a background part ends, which gives its error.
// The caller then calls Stop.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case err := <-s.ended:
		return err
	case <-ctx.Done():
		select { // a part that failed at the same moment is the better explanation
		case err := <-s.ended:
			return err
		default:
			return nil
		}
	}
}

// Stop stops all parts, the last started first, and joins their errors. Calling it again returns the same result.
func (s *Stack) Stop() error {
	s.once.Do(func() {
		var errs []error
		for i := len(s.steps) - 1; i >= 0; i-- {
			errs = append(errs, s.stopOne(s.steps[i]))
		}
		s.err = errors.Join(errs...)
	})
	return s.err
}

func (s *Stack) stopOne(st step) error {
	ctx, cancel := context.WithTimeout(s.base, st.deadline)
	defer cancel()
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- st.stop(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		// A stop that returns at its own deadline is preferred to "left behind".
		select {
		case err = <-done:
		default:
			err = errors.New("left behind")
		}
	}
	if err != nil {
		return fmt.Errorf("stop %s after %v: %w", st.name, time.Since(begin).Round(time.Millisecond), err)
	}
	s.log.DebugContext(s.base, "part stopped", "part", st.name, "took", time.Since(begin))
	return nil
}

// Run is Wait followed by Stop, with both errors joined.
func (s *Stack) Run(ctx context.Context) error {
	err := s.Wait(ctx)
	if err != nil {
		s.log.ErrorContext(s.base, "a part ended, the program stops", "err", err)
	}
	return errors.Join(err, s.Stop())
}
