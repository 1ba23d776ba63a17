package policy

import "testing"

// ISO 3166-1 assigns 249 codes.
func TestCountries(t *testing.T) {
	var all []string
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			if code := string([]rune{a, b}); isCountry(code) {
				all = append(all, code)
			}
		}
	}
	if len(all) != 249 {
		t.Errorf("%d countries, want 249: %v", len(all), all)
	}
	for _, code := range []string{"UK", "EU", "XK", "AN", "SU", "ZZ", "us", "USA", "840", "", "U"} {
		if isCountry(code) {
			t.Errorf("%q passes for a country", code)
		}
	}
}
