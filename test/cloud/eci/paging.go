package eci

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
)

// defaultPage is what one answer of the lists holds whose Limit has no published
// bounds; the Limit may be up to maxPage.
const (
	defaultPage = 20
	maxPage     = 100
)

// pageLimit reads the Limit of such a list.
func pageLimit(req *member) (int, *apiError) {
	text := req.str("Limit")
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxPage {
		return 0, invalidParameter("Limit must be 1 to %d.", maxPage)
	}
	return n, nil
}

// pageBy sorts a list by a key and cuts the page that NextToken names, with the
// token of the next one, which is empty after the last.
func pageBy[T any](all []T, key func(T) string, req *member, limit int) (page []T, next string, refusal *apiError) {
	slices.SortFunc(all, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	if token := req.str("NextToken"); token != "" {
		last, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return nil, "", invalidParameter("NextToken is not a token of this service.")
		}
		for len(all) > 0 && key(all[0]) <= string(last) {
			all = all[1:]
		}
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], base64.RawURLEncoding.EncodeToString([]byte(key(all[limit-1]))), nil
}
