package expr

import (
	"fmt"
	"strings"
)

var months = map[string]int{
	"january": 1, "february": 2, "march": 3, "april": 4, "may": 5, "june": 6, "july": 7, "august": 8, "september": 9,
	"october": 10, "november": 11, "december": 12, "jan": 1, "feb": 2, "mar": 3, "apr": 4, "jun": 6, "jul": 7, "aug": 8, "sep": 9,
	"sept": 9, "oct": 10, "nov": 11, "dec": 12,
}

var dateLayout = strings.NewReplacer("\\text", " ", "{", " ", "}", " ", "\\", " ", ",", " ", "$", " ", "^", "", ".", " ")

// dateLike rules out most texts quickly: a date has a digit, and a month's name or two hyphens.
func dateLike(s string) bool {
	digit, hyphens, month := false, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isDigit(c):
			digit = true
		case c == '-':
			hyphens++
		case isLetter(c) && !month && i+3 <= len(s) && (i == 0 || !isLetter(s[i-1])):
			month = months[strings.ToLower(s[i:i+3])] != 0
		}
	}
	return digit && (month || hyphens == 2 && len(s) == 10)
}

// date reads "March 5, 2020", "5 March 2020", "March 5th", "2020-03-05"; nil when src is something else.
func date(src string) *Node {
	if len(src) > 60 || len(src) < 5 || !dateLike(src) {
		return nil
	}
	s := dateLayout.Replace(strings.ToLower(src))
	fields := strings.Fields(s)
	if len(fields) == 1 {
		return isoDate(fields[0])
	}
	if len(fields) < 2 || len(fields) > 4 {
		return nil
	}
	month, day, year := 0, 0, 0
	for i, f := range fields {
		if m := months[f]; m != 0 && month == 0 {
			month = m
			continue
		}
		switch f {
		case "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "the", "of":
			if i == 0 || f == "of" {
				continue
			}
			return nil
		}
		switch v := ordinal(f); {
		case v >= 1 && v <= 31 && day == 0:
			day = v
		case v >= 1000 && v <= 9999 && year == 0:
			year = v
		default:
			return nil
		}
	}
	if month == 0 || day == 0 && year == 0 {
		return nil
	}
	return dateNode(year, month, day)
}

func isoDate(s string) *Node {
	var y, m, d int
	if n, err := fmt.Sscanf(s, "%4d-%2d-%2d", &y, &m, &d); err != nil || n != 3 || len(s) != 10 || m < 1 || m > 12 || d < 1 || d > 31 {
		return nil
	}
	return dateNode(y, m, d)
}

// ordinal reads 5 or 5th; what is no such number is -1.
func ordinal(s string) int {
	s = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(s, "th"), "st"), "nd"), "rd")
	v := 0
	for _, c := range s {
		if c < '0' || c > '9' || v > 9999 {
			return -1
		}
		v = v*10 + int(c-'0')
	}
	return v
}

func dateNode(y, m, d int) *Node {
	return &Node{Kind: Date, Name: fmt.Sprintf("%04d-%02d-%02d", y, m, d)}
}
