package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/lifecycle"
)

func TestPartsStopInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := lifecycle.New(ctx, nil)
		var order []string
		add := func(name string) {
			s.OnStop(name, 0, func(context.Context) error { order = append(order, name); return nil })
		}
		add("store")
		s.Go("worker", 0, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) // finishing what is in flight
			order = append(order, "worker")
			return ctx.Err()
		})
		add("listener")
		cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if want := []string{"listener", "worker", "store"}; !slices.Equal(order, want) {
			t.Fatalf("stopped in order %v, want %v", order, want)
		}
	})
}

func TestOneStuckPartDelaysTheOthersByItsDeadlineOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lifecycle.New(t.Context(), nil)
		release := make(chan struct{})
		stopped := false
		s.OnStop("store", time.Second, func(context.Context) error { stopped = true; return errors.New("disk gone") })
		s.Go("stuck", 5*time.Second, func(context.Context) error { <-release; return nil })
		begin := time.Now()
		err := s.Stop()
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("stopping took %v, want the 5s deadline of the stuck part", took)
		}
		if !stopped {
			t.Error("the part before the stuck one was not stopped")
		}
		for _, want := range []string{"stop stuck after 5s", "disk gone"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not name %q", err, want)
			}
		}
		close(release)
	})
}

func TestAPartThatEndsEndsTheProgram(t *testing.T) {
	for name, failure := range map[string]error{"with an error": errors.New("port taken"), "without one": nil} {
		t.Run(name, func(t *testing.T) {
			s := lifecycle.New(t.Context(), nil)
			s.Go("web", 0, func(context.Context) error { return failure })
			err := s.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), "web:") {
				t.Fatalf("error %v does not name the part that ended", err)
			}
			if failure != nil && !errors.Is(err, failure) {
				t.Fatalf("error %v lost its cause", err)
			}
		})
	}
}
