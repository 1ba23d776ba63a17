// Package servicebus holds no code: its test holds the page on a Service Bus mid-point and the Bicep file beside it
// to each other, since no compiler of Bicep is part of the build.
package servicebus

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// names are the first groups of every match, sorted.
func names(text, pattern string) (list []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return list
}

// code is the file without comments and without what stands in quotes, so that brackets and names in it count.
func code(text string) string {
	text = regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAllString(text, "")
	return regexp.MustCompile(`'(?:\\.|[^'\\\n])*'`).ReplaceAllStringFunc(text, func(s string) string {
		return strings.Join(names(s, `\$\{([A-Za-z]+)\}`), " ") // an expression in a text uses its name
	})
}

func TestBicepIsWhole(t *testing.T) {
	text := code(read(t, "servicebus.bicep"))
	var open []rune
	for _, r := range text {
		switch r {
		case '{', '[', '(':
			open = append(open, r)
		case '}', ']', ')':
			want := map[rune]rune{'}': '{', ']': '[', ')': '('}[r]
			if len(open) == 0 || open[len(open)-1] != want {
				t.Fatalf("a %c closes nothing", r)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 || strings.Contains(text, "'") {
		t.Errorf("%d brackets stay open, or a text does", len(open))
	}
	for _, kind := range []string{"param", "var"} {
		for _, name := range names(text, `(?m)^`+kind+` (\w+)`) {
			if n := len(regexp.MustCompile(`\b`+name+`\b`).FindAllString(text, -1)); n < 2 {
				t.Errorf("%s %s is never used", kind, name)
			}
		}
	}
	symbols := names(text, `(?m)^resource (\w+)`)
	for _, name := range names(text, `(?m)^  (?:parent|scope): (\w+)`) {
		if !slices.Contains(symbols, name) {
			t.Errorf("%s is no resource of the file; there are %q", name, symbols)
		}
	}
}

// Least privilege: whatever is granted is on the queue, and neither Manage nor the other direction.
func TestRightsReachNoFurther(t *testing.T) {
	text := read(t, "servicebus.bicep")
	if got := names(text, `rights: \[([^\]]*)\]`); !slices.Equal(got, []string{"'Listen'", "'Send'"}) {
		t.Errorf("want one policy that sends and one that listens, got %q", got)
	}
	for _, block := range regexp.MustCompile(`(?ms)^resource \w+ 'Microsoft\.(?:Authorization/roleAssignments|ServiceBus/namespaces/queues/authorizationRules)@.*?^}`).FindAllString(text, -1) {
		if !strings.Contains(block, "scope: queue\n") && !strings.Contains(block, "parent: queue\n") {
			t.Errorf("a right that is not on the queue alone:\n%s", block)
		}
	}
	for _, at := range names(text, `roleDefinitions', (\w+)\)`) {
		if at != "dataSender" && at != "dataReceiver" {
			t.Errorf("a role beyond sending and receiving: %s", at)
		}
	}
}

// What the page says of a setting is what the file sets.
func TestPageAndFileAgree(t *testing.T) {
	page, file, producer := read(t, "README.md"), read(t, "servicebus.bicep"), read(t, "../README.md")
	for setting, value := range map[string]string{
		"duplicateDetectionHistoryTimeWindow": "P7D", "lockDuration": "PT1M", "maxDeliveryCount": "100", "defaultMessageTimeToLive": "P14D",
		"maxSizeInMegabytes": "81920",
	} {
		if at := regexp.MustCompile(`"` + setting + `": "?([A-Z0-9]+)`).FindStringSubmatch(producer); setting != "maxSizeInMegabytes" && (at == nil || at[1] != value) {
			t.Errorf("the producer's page makes a queue with another %s: %q", setting, at)
		}
		if !regexp.MustCompile(`(?m)^    ` + setting + `: '?` + value + `'?$`).MatchString(file) {
			t.Errorf("the file does not set %s to %s", setting, value)
		}
		if !regexp.MustCompile("(?m)^\\| `" + setting + "` \\| `?" + value + "\\b").MatchString(page) {
			t.Errorf("the page does not say that %s is %s", setting, value)
		}
	}
	params := names(file, `(?m)^param (\w+)`)
	for _, name := range names(page, `\b([a-z]\w*)=[A-Za-z']`) {
		if !slices.Contains(params, name) {
			t.Errorf("the page's command gives %s, which is no parameter of the file", name)
		}
	}
	for _, name := range []string{"producer-send", "consumer-listen"} {
		if !strings.Contains(file, "'"+name+"'") || !strings.Contains(page, "`"+name+"`") || !strings.Contains(producer, " "+name+":") {
			t.Errorf("policy %s is not in the file and on both pages", name)
		}
	}
}
