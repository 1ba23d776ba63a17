package main

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// service is what the test looks at of one.
type service struct {
	User        string         `yaml:"user"`
	ReadOnly    bool           `yaml:"read_only"`
	Privileged  bool           `yaml:"privileged"`
	Drop        []string       `yaml:"cap_drop"`
	Add         []string       `yaml:"cap_add"`
	Security    []string       `yaml:"security_opt"`
	Ports       []any          `yaml:"ports"`
	Networks    any            `yaml:"networks"`
	NetworkMode string         `yaml:"network_mode"`
	Volumes     []string       `yaml:"volumes"`
	Sysctls     map[string]any `yaml:"sysctls"`
}

// on lists the networks of a service, sorted.
func (s *service) on() (list []string) {
	switch n := s.Networks.(type) {
	case []any:
		for _, x := range n {
			list = append(list, x.(string))
		}
	case map[string]any:
		for x := range n {
			list = append(list, x)
		}
	}
	slices.Sort(list)
	return list
}

// The file is the architecture: who stands where, and that nobody can do more than it must.
func TestComposeFile(t *testing.T) {
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]service        `yaml:"services"`
		Networks map[string]map[string]any `yaml:"networks"`
		Volumes  map[string]any            `yaml:"volumes"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	stands := map[string][]string{
		"producer": {"commercial", "midpoint"}, "midpoint": {"midpoint"}, "servicebus": {"midpoint"}, "egress": {"enclave", "midpoint"},
		"consumer": {"enclave"}, "tenant": {"enclave"},
	}
	for name, s := range file.Services {
		if s.User != "65532:65532" || !s.ReadOnly || s.Privileged || !slices.Equal(s.Drop, []string{"ALL"}) || len(s.Add) > 0 || !slices.Contains(s.Security, "no-new-privileges:true") {
			t.Errorf("%s is not hardened: %+v", name, s)
		}
		if len(s.Ports) > 0 {
			t.Errorf("%s publishes %v", name, s.Ports)
		}
		if want, ok := stands[name]; ok {
			if !slices.Equal(s.on(), want) {
				t.Errorf("%s stands on %q, want %q", name, s.on(), want)
			}
			delete(stands, name)
		} else if s.NetworkMode != "none" || len(s.on()) > 0 {
			t.Errorf("%s is on a network: %q %q", name, s.NetworkMode, s.on())
		}
		if len(s.on()) > 1 && s.Sysctls["net.ipv4.ip_forward"] != uint64(0) {
			t.Errorf("%s stands on two networks and may forward packets between them: %v", name, s.Sysctls)
		}
		for _, v := range s.Volumes { // state and secrets; nothing of the machine itself
			from, _, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[from]; !ok {
				t.Errorf("%s mounts %s, which is no volume of the file", name, v)
			}
		}
	}
	if len(stands) > 0 {
		t.Errorf("the file does not have %v", stands)
	}
	if file.Networks["enclave"]["internal"] != true {
		t.Error("the enclave's network has a way out")
	}
}

// Nothing is pulled: each image begins empty, or with one that does.
func TestImagesBeginEmpty(t *testing.T) {
	f, err := os.Open("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ours := []string{"scratch"}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "FROM" {
			continue
		}
		if !slices.Contains(ours, words[1]) {
			t.Errorf("an image begins with %s", words[1])
		}
		if len(words) == 4 {
			ours = append(ours, words[3])
		}
	}
	if len(ours) < 6 {
		t.Errorf("only %q are built", ours)
	}
}
