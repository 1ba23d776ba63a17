package childqueue

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// cores is how many processors' time our control groups let us take, which a child shares; 0: nothing bounds it, or that cannot be
// read.
func cores() float64 {
	of, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	return coresIn("/sys/fs/cgroup", string(of))
}

// coresIn is the least that any group of ours or above allows. of says which they are, see cgroups(7). In a container the tree may begin
// at our own: then what stands above is not there, and the root is it.
func coresIn(root, of string) (least float64) {
	for line := range strings.Lines(of) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		tree, read := root, unified
		if fields[1] != "" { // version 1: a tree for each controller
			if !strings.Contains(","+fields[1]+",", ",cpu,") {
				continue
			}
			tree, read = filepath.Join(root, fields[1]), legacy
		}
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			if c := read(filepath.Join(tree, filepath.FromSlash(group))); c > 0 && (least == 0 || c < least) {
				least = c
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// unified reads cpu.max: microseconds, or max, in a period.
func unified(group string) float64 {
	text, err := os.ReadFile(filepath.Join(group, "cpu.max"))
	if err != nil {
		return 0
	}
	quota, period, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	return share(quota, period)
}

// legacy reads the two files of version 1; a quota of -1 is none.
func legacy(group string) float64 {
	quota, err := os.ReadFile(filepath.Join(group, "cpu.cfs_quota_us"))
	if err != nil {
		return 0
	}
	period, err := os.ReadFile(filepath.Join(group, "cpu.cfs_period_us"))
	if err != nil {
		return 0
	}
	return share(strings.TrimSpace(string(quota)), strings.TrimSpace(string(period)))
}

func share(quota, period string) float64 {
	q, err := strconv.ParseInt(quota, 10, 64)
	if err != nil {
		return 0
	}
	p, err := strconv.ParseInt(period, 10, 64)
	if err != nil || q <= 0 || p <= 0 {
		return 0
	}
	return float64(q) / float64(p)
}
