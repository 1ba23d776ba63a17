package childqueue

import (
	"os"
	"path/filepath"
	"testing"
)

// The least of what the groups allow is found in either version, from within a container and from without.
func TestCores(t *testing.T) {
	for name, c := range map[string]struct {
		of    string
		files map[string]string
		want  float64
	}{
		"none":                      {"0::/a/b\n", map[string]string{"a/b/cpu.max": "max 100000\n"}, 0},
		"our own":                   {"0::/a/b\n", map[string]string{"a/b/cpu.max": "25000 100000\n"}, 0.25},
		"one above":                 {"0::/a/b\n", map[string]string{"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5},
		"the least":                 {"0::/a/b\n", map[string]string{"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5},
		"a container's root":        {"0::/\n", map[string]string{"cpu.max": "25000 100000\n"}, 0.25},
		"a root with a host's name": {"0::/docker/123\n", map[string]string{"cpu.max": "25000 100000\n"}, 0.25},
		"version 1":                 {"2:cpu,cpuacct:/a\n0::/\n", map[string]string{"cpu,cpuacct/a/cpu.cfs_quota_us": "25000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "50000\n"}, 0.5},
		"version 1, none":           {"1:cpu:/\n", map[string]string{"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0},
		"version 1, another's":      {"1:cpuset:/\n", map[string]string{"cpuset/cpu.cfs_quota_us": "1\n", "cpuset/cpu.cfs_period_us": "100000\n"}, 0},
		"what nobody writes":        {"0::/\nx\n", map[string]string{"cpu.max": "9 0\n"}, 0},
		"nothing there":             {"0::/a\n", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range c.files {
				file = filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := coresIn(root, c.of); got != c.want {
				t.Errorf("%v, expected %v", got, c.want)
			}
		})
	}
}
