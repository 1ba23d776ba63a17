package command

import (
	"os/user"
	"testing"
)

func TestWhoActs(t *testing.T) {
	lookup := func(uid string) (*user.User, error) {
		if uid == "1000" {
			return &user.User{Username: "ann"}, nil
		}
		return nil, user.UnknownUserIdError(1)
	}
	for _, c := range []struct {
		text, who string
		ok        bool
	}{
		{"1000\n", "ann", true},
		{"1001\n", "uid:1001", true},
		{"4294967295\n", "", false}, // a service: nobody logged in
		{"", "", false},
		{"-1", "", false},
	} {
		if who, ok := loginOf(c.text, lookup); who != c.who || ok != c.ok {
			t.Errorf("loginOf(%q) = %q, %v; want %q, %v", c.text, who, ok, c.who, c.ok)
		}
	}
	t.Setenv("USER", "mallory")
	t.Setenv("SUDO_USER", "mallory")
	if who, err := Operator(); err != nil || who == "mallory" || who == "" {
		t.Errorf("Operator() = %q, %v", who, err)
	}
}
