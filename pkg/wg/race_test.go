//go:build race

package wg

const raceDetector = true
