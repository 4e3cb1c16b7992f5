// Package faults makes system calls of this process fail, or kills it before them, at named points: what disks and power cuts do. It
// works on Linux alone. Tests of what has to survive that use it; no program does.
package faults
