//go:build !linux

package spool

import (
	"errors"
	"fmt"
)

const memoryChildMark = "HSI_TEST_SPOOL_MEMORY"

func memoryChild(string) { fmt.Println("fail: reads /proc of Linux") }

func armToKill(string) error { return errors.New("named points are system calls of Linux") }
