package apperr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestWhatAClientSees(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		http int
		grpc codes.Code
		code Code
		text string
	}{
		"coded":             {E(NotFound, "NOTFOUND_001", "site %s does not exist", "x"), 404, codes.NotFound, "NOTFOUND_001", "site x does not exist"},
		"coded and wrapped": {fmt.Errorf("list: %w", E(Forbidden, "AUTH_002", "not yours")), 403, codes.PermissionDenied, "AUTH_002", "not yours"},
		"validation as 422": {E(Unprocessable, "VALID_001", "from is after to"), 422, codes.InvalidArgument, "VALID_001", "from is after to"},
		"foreign":           {errors.New("password=hunter2"), 500, codes.Internal, "", "an internal error; the log has it under this request's id"},
		"slow statement":    {&pgconn.PgError{Code: "57014"}, 500, codes.Internal, "DB_002", "the query took too long"},
		"text with a NUL":   {&pgconn.PgError{Code: "22021"}, 400, codes.InvalidArgument, "VALID_001", "a text holds a character that cannot be stored, such as U+0000"},
		"JSON with a NUL":   {&pgconn.PgError{Code: "22P05"}, 400, codes.InvalidArgument, "VALID_001", "a text holds a character that cannot be stored, such as U+0000"},
		"deadline":          {fmt.Errorf("q: %w", context.DeadlineExceeded), 500, codes.Internal, "DB_002", "the query took too long"},
		"shutting down":     {&pgconn.PgError{Code: "57P01"}, 500, codes.Internal, "DB_001", "the database cannot be reached"},
		"disk full":         {&pgconn.PgError{Code: "53100"}, 500, codes.Internal, "DB_001", "the database cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Of(c.err)
			if p.HTTP != c.http || p.GRPC != c.grpc || p.Code != c.code || p.Text != c.text {
				t.Errorf("got %+v", p)
			}
		})
	}
	if err := GRPC(nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	if err := GRPC(status.Error(codes.Aborted, "as it is")); status.Code(err) != codes.Aborted {
		t.Errorf("a status became %v", err)
	}
	if err := E(Internal, "DB_001", "reading: %w", io.EOF); !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
}

// Customers are told no setting's name; codes used anywhere in the hub are listed.
func TestCodesAreListedAndHelpNamesNoSetting(t *testing.T) {
	setting := regexp.MustCompile(`[A-Z]{2,}_[A-Z]{2,}|Redis|PostgreSQL`)
	for _, info := range Codes() {
		if info.Help == "" || info.Meaning == "" || info.HTTP == 0 {
			t.Errorf("%s is incomplete", info.Code)
		}
		if setting.MatchString(info.Help) {
			t.Errorf("%s tells customers %q", info.Code, info.Help)
		}
	}
	used := regexp.MustCompile(`apperr\.E\(\s*apperr\.\w+,\s*"([A-Z]+_\d{3})"`)
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			if d != nil && d.IsDir() && d.Name() == "node_modules" {
				return fs.SkipDir
			}
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range used.FindAllSubmatch(src, -1) {
			if _, ok := listed[Code(m[1])]; !ok {
				t.Errorf("%s uses %s, which codes.go does not list", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
