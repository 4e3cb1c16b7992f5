package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/joho/godotenv"
)

const minSecret = 32

// placeholders are fragments of secrets that were published: in our own example, in manuals, in tutorials.
var placeholders = []string{"change-me", "change_me", "changeme", "change-this", "change_this", "your-", "your_", "placeholder", "example", "replace-me", "replace_me", "generate-with", "dev-secret", "super-secret", "0123456789"}

// checkSecret returns what is wrong with a secret, without showing it.
func checkSecret(s string) error {
	if len(s) < minSecret {
		return fmt.Errorf("has %d characters, want at least %d: hashinsight-hub config generate makes one", len(s), minSecret)
	}
	low := strings.ToLower(s)
	for _, p := range placeholders {
		if strings.Contains(low, p) {
			return errors.New("is a published placeholder: hashinsight-hub config generate makes a secret")
		}
	}
	distinct := map[rune]bool{}
	for _, r := range s {
		distinct[r] = true
	}
	if len(distinct) < 8 {
		return errors.New("repeats a few characters: hashinsight-hub config generate makes a secret")
	}
	return nil
}

// NewSecret returns 256 random bits as text.
func NewSecret() Secret {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return Secret(base64.RawURLEncoding.EncodeToString(b))
}

// Generate returns the lines of a .env file with fresh secrets.
func Generate() string {
	return fmt.Sprintf("SESSION_SECRET=%s\nENCRYPTION_PASSWORD=%s\n", string(NewSecret()), string(NewSecret()))
}

// FillDevSecrets gives a development hub the secrets it was not given, from the file secrets.env in DATA_DIR, which is
// made at first use (mode 0600). In prod it does nothing: there missing secrets were a problem already.
func (c *Config) FillDevSecrets() error {
	if !c.Dev() || c.SessionSecret != "" && c.EncryptionPassword != "" {
		return nil
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755 // the embedded PostgreSQL's user passes through; the file itself is closed
	}
	if err := os.MkdirAll(c.DataDir, mode); err != nil {
		return fmt.Errorf("making DATA_DIR for the development secrets: %w", err)
	}
	path := filepath.Join(c.DataDir, "secrets.env")
	// Written whole or not at all, and never over another process's: its database may already be sealed with those.
	tmp, err := os.CreateTemp(c.DataDir, ".secrets-*") // mode 0600
	if err != nil {
		return fmt.Errorf("development secrets: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.WriteString(Generate())
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("development secrets: %w", err)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("development secrets: %w", err)
	}
	m, err := godotenv.Read(path)
	if err != nil {
		return fmt.Errorf("development secrets: %s is malformed; it held the secrets of the database beside it", path)
	}
	if c.SessionSecret == "" {
		c.SessionSecret = Secret(m["SESSION_SECRET"])
	}
	if c.EncryptionPassword == "" {
		c.EncryptionPassword = Secret(m["ENCRYPTION_PASSWORD"])
	}
	return errors.Join(checkSecret(string(c.SessionSecret)), checkSecret(string(c.EncryptionPassword)))
}
