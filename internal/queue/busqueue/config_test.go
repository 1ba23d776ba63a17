package busqueue

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jmlbridge/internal/cloud"
)

const gov = "jml-gov.servicebus.usgovcloudapi.net"

func sas(t testing.TB, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sas")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestConfigRefused(t *testing.T) {
	const good = "Endpoint=sb://" + gov + "/;SharedAccessKeyName=producer;SharedAccessKey=hidden=;EntityPath=jml-gov-1"
	identity := func(c *Config) {
		c.ConnectionFile, c.Credential, c.Cloud = "", cloud.CredentialConfig{Kind: cloud.ManagedIdentity}, cloud.Config{Name: cloud.AzureGovernment}
	}
	for name, c := range map[string]struct {
		edit func(*Config)
		want string // empty: taken
	}{
		"connection string": {func(*Config) {}, ""},
		"with its line end": {func(c *Config) { c.ConnectionFile = sas(t, good+"\r\n", 0o600) }, ""},
		"identity":          {identity, ""},
		"no namespace":      {func(c *Config) { c.Namespace = "" }, "namespace: "},
		"a URL":             {func(c *Config) { c.Namespace = "sb://" + gov }, "namespace: "},
		"no queue":          {func(c *Config) { c.Queue = "" }, "queue: "},
		"queue with a sub":  {func(c *Config) { c.Queue = "jml/$deadletterqueue" }, "queue: "},
		"transport":         {func(c *Config) { c.Transport = "http" }, "transport: "},
		"no credential":     {func(c *Config) { c.ConnectionFile = "" }, "exactly one of"},
		"two credentials":   {func(c *Config) { c.Credential.Kind = cloud.ManagedIdentity }, "exactly one of"},
		"cloud in vain":     {func(c *Config) { c.Cloud.Name = cloud.AzureGovernment }, "cloud: "},
		"readable by all":   {func(c *Config) { c.ConnectionFile = sas(t, good, 0o644) }, "mode 0644"},
		"readable by group": {func(c *Config) { c.ConnectionFile = sas(t, good, 0o640) }, "mode 0640"},
		"a folder":          {func(c *Config) { c.ConnectionFile = t.TempDir() }, "not a regular file"},
		"not a string":      {func(c *Config) { c.ConnectionFile = sas(t, "hidden", 0o600) }, "pairs key=value"},
		"in quotes":         {func(c *Config) { c.ConnectionFile = sas(t, `"`+good+`"`, 0o600) }, "--output tsv"},
		"a key behind it":   {func(c *Config) { c.ConnectionFile = sas(t, good+"\n-----BEGIN PRIVATE KEY-----\nhidden\n", 0o600) }, "expected one line"},
		"no key":            {func(c *Config) { c.ConnectionFile = sas(t, "Endpoint=sb://"+gov+"/", 0o600) }, "SharedAccessKeyName"},
		"another namespace": {func(c *Config) { c.Namespace = "other.servicebus.usgovcloudapi.net" }, "not other."},
		"another queue":     {func(c *Config) { c.Queue = "jml-gov-2" }, "not for the queue"},
		"emulator":          {func(c *Config) { c.ConnectionFile = sas(t, good+";UseDevelopmentEmulator=true", 0o600) }, "turns TLS off"},
		"emulator, allowed": {func(c *Config) {
			c.ConnectionFile, c.Development = sas(t, good+";UseDevelopmentEmulator=true", 0o600), true
		}, ""},
		"another cloud": {func(c *Config) { identity(c); c.Namespace = "jml.servicebus.windows.net" }, "is not in AzureGovernment"},
		"looks like it": {func(c *Config) { identity(c); c.Namespace = "jmlservicebus.usgovcloudapi.net" }, "is not in AzureGovernment"},
		"no name":       {func(c *Config) { identity(c); c.Namespace = "servicebus.usgovcloudapi.net" }, "is not in AzureGovernment"},
		"no cloud":      {func(c *Config) { identity(c); c.Cloud = cloud.Config{} }, "cloud: name"},
		"proxy":         {func(c *Config) { c.Proxy = "socks5://u:hidden@h:1" }, "proxy is not an address"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := Config{Namespace: gov, Queue: "jml-gov-1", ConnectionFile: sas(t, good, 0o600), Proxy: "none"}
			c.edit(&conf)
			_, err := conf.open()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden")):
				t.Errorf("%v; expected %q and no secret", err, c.want)
			}
		})
	}
}

// FuzzConnection: nothing that somebody puts into the file panics, and no error repeats a value.
func FuzzConnection(f *testing.F) {
	f.Add("Endpoint=sb://h/;SharedAccessKeyName=a;SharedAccessKey=b=;EntityPath=q;UseDevelopmentEmulator=true")
	f.Add("endpoint=sb://u@h:1;;=;a=b")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConnection(text + ";SharedAccessKey=v3ryhidden")
		if err != nil && strings.Contains(err.Error(), "v3ryhidden") {
			t.Errorf("a key is in %q", err)
		}
		if err == nil && c.endpoint == "" {
			t.Errorf("%q has no endpoint and was taken", text)
		}
	})
}

// A dark position is read back as it was written, and no other is believed.
func TestCursor(t *testing.T) {
	for _, c := range []cursor{{}, {next: [2]int64{1, 2}, put: 3}, {next: [2]int64{1 << 62, 0}}} {
		if got := parseCursor(c.position()); got != c {
			t.Errorf("%v became %v", c, got)
		}
	}
	if got := parseCursor([]byte("dark 5 6")); got != (cursor{next: [2]int64{5, 6}}) { // as it was once written
		t.Errorf("two numbers became %v", got)
	}
	for _, text := range []string{"", "5", "dark", "dark 5", "dark -1 2", "dark 1 -2", "dark 1 2 3 4", "dark 1 2 -3", "dark 1 2 ", "dark x y", "dark 9223372036854775808 0"} {
		if got := parseCursor([]byte(text)); got != (cursor{}) {
			t.Errorf("%q became %v", text, got)
		}
	}
}
