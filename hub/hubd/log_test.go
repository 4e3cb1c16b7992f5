package hubd_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

// A running hub puts the key of a site that registers, and its own, into the log, signs a checkpoint, and serves it to anybody when the log is public, and only then.
func TestARunningHubKeepsItsLog(t *testing.T) {
	c := config(pgtest.URL(t))
	c.Transparency = hubd.Transparency{Dir: filepath.Join(t.TempDir(), "log"), Public: true}
	h := start(t, c)
	awaitReady(t, h)
	site(t, c, "north", "127.0.0.1:1")
	url := "http://" + h.WebAddr().String() + "/log/"
	for end := time.Now().Add(time.Minute); ; <-time.After(200 * time.Millisecond) {
		list, err := hubd.LogEntries(t.Context(), c.Database, "site_key", 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the site's key gets no place in the log")
		}
	}
	var size string
	for end := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) { // the tiles follow at once
		if status, _, text := get(t, http.DefaultClient, url+"checkpoint", ""); status == http.StatusOK && strings.HasPrefix(text, "hashinsight.log/") {
			if size = strings.Split(text, "\n")[1]; size >= "3" {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no checkpoint of three entries or more: %s", size)
		}
	}
	if status, header, b := get(t, http.DefaultClient, url+"tile/entries/000.p/"+size, ""); status != http.StatusOK || len(b) < 3*30 || !strings.Contains(header.Get("Cache-Control"), "immutable") {
		t.Errorf("the entries: %d, %d bytes, %v", status, len(b), header)
	}
	if status, _, _ := get(t, http.DefaultClient, url+"tile/entries/000", ""); status != http.StatusNotFound {
		t.Errorf("a tile that is not full yet: %d", status)
	}
	v, err := hubd.CheckLog(t.Context(), c.Database, c.Transparency, io.Discard)
	if err != nil || !v.OK() || v.Entries < 3 || v.Records != 1 {
		t.Errorf("fsck: %+v, %v", v, err)
	}
	c.Transparency.Public = false
	other := start(t, c)
	awaitReady(t, other)
	if _, _, text := get(t, http.DefaultClient, "http://"+other.WebAddr().String()+"/log/checkpoint", ""); strings.HasPrefix(text, "hashinsight.log/") {
		t.Error("a log that is not public is served without a key")
	}
}
