package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Modules of a hub: parts that may run in processes of their own, all on one database.
const (
	ModuleIngest = "ingest" // takes telemetry from agents
	ModuleAPI    = "api"    // answers /api
	ModulePage   = "page"   // serves the operator's page
	ModuleJobs   = "jobs"   // background work
)

// AllModules lists the modules there are.
func AllModules() []string { return []string{ModuleIngest, ModuleAPI, ModulePage, ModuleJobs} }

// ParseModules reads names separated by commas, in any order. Empty text means all modules.
func ParseModules(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return AllModules(), nil
	}
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		names = append(names, strings.ToLower(strings.TrimSpace(name)))
	}
	return CheckModules(names)
}

// CheckModules returns the modules in their usual order, or what is wrong with the list. No name at all means all modules.
func CheckModules(names []string) ([]string, error) {
	if len(names) == 0 {
		return AllModules(), nil
	}
	var errs []error
	for _, name := range names {
		if !slices.Contains(AllModules(), name) {
			errs = append(errs, fmt.Errorf("has %.40q, which is no module: there are %s", name, strings.Join(AllModules(), ", ")))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(AllModules(), func(m string) bool { return !slices.Contains(names, m) }), nil
}
