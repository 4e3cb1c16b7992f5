package api

//go:generate go test -run TestCommittedDescriptionIsCurrent -update .
