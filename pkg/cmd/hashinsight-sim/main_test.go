package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// notify cancels when the ready line is printed, so that the test needs no waiting.
type notify struct {
	bytes.Buffer
	line string
	then func()
}

func (n *notify) Write(b []byte) (int, error) {
	if strings.Contains(string(b), n.line) {
		n.then()
	}
	return n.Buffer.Write(b)
}

func TestProgramStartsTellsAndStops(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &notify{line: "control: http://", then: cancel}
	c := command()
	c.SetArgs([]string{"--miners", "1", "--base", "127.0.0.1", "--port", strconv.Itoa(port), "--control", "127.0.0.1:0",
		"--record", filepath.Join(dir, "r.jsonl"), "--state", filepath.Join(dir, "s.json"), "--ready-file", filepath.Join(dir, "ready")})
	c.SetOut(out)
	c.SetErr(out)
	if err := c.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 miners on 127.0.0.1:", "served without fault", "antminer-s19", "stopped after 0 connections"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	var ready struct {
		PID    int
		Miners []struct{ Address, Family string }
	}
	raw, err := os.ReadFile(filepath.Join(dir, "ready"))
	if err != nil || json.Unmarshal(raw, &ready) != nil || ready.PID != os.Getpid() || len(ready.Miners) != 1 {
		t.Errorf("ready file %q, %v", raw, err)
	}
}

func TestEveryWrongFlagIsNamed(t *testing.T) {
	c := command()
	c.SetArgs([]string{"--base", "here", "--faulty", "200%", "--latency", "soon", "--control", "0.0.0.0:80", "--schedule", "nowhere.json"})
	err := c.ExecuteContext(t.Context())
	if err == nil {
		t.Fatal("started")
	}
	for _, flag := range []string{"--base", "--faulty", "--latency", "--control", "--schedule"} {
		if !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not named in %q", flag, err)
		}
	}
}

func TestControlEndpointEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	addr, serve, err := listenControl(ctx, "127.0.0.1:0", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve() }()
	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
