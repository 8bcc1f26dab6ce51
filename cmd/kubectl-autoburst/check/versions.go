package check

import "context"

// versionSkew compares the versions of all parts.
func versionSkew(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	v, err := s.Versions(ctx, r, s.Version)
	if err != nil {
		return finding{}, err
	}
	return of(Warning, v.Skew, "parts are of another version than the controller", ok("all parts are of version %s", v.Controller)), nil
}
