package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"time"
)

// document is an SPDX 2.3 document, https://spdx.github.io/spdx-spec/v2.3/.
type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	ID        string      `json:"SPDXID"`
	Name      string      `json:"name"`
	Version   string      `json:"versionInfo"`
	Location  string      `json:"downloadLocation"`
	Analyzed  bool        `json:"filesAnalyzed"`
	Concluded string      `json:"licenseConcluded"`
	Declared  string      `json:"licenseDeclared"`
	Copyright string      `json:"copyrightText"`
	Checksums []checksum  `json:"checksums,omitempty"`
	Refs      []reference `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const (
	documentID  = "SPDXRef-DOCUMENT"
	programID   = "SPDXRef-program"
	noAssertion = "NOASSERTION"
)

// describe writes what a program was built from, as the go command has recorded it
// in the program, beside it.
func (r *release) describe(path string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading what %s was built from: %w", path, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(sbom(filepath.Base(path), r.version, r.at, fmt.Sprintf("%x", sha256.Sum256(content)), info), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path+".spdx.json", append(text, '\n'), 0o644)
}

func sbom(name, version string, at time.Time, sum string, info *debug.BuildInfo) document {
	d := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: documentID, Name: name,
		Namespace: "https://" + info.Main.Path + "/spdx/" + name + "-" + sum,
		Creation:  creation{at.Format(time.RFC3339), []string{"Tool: autoburst-release"}},
		Packages: []pkg{{
			ID: programID, Name: info.Main.Path + "/cmd/" + filepath.Base(info.Path), Version: version,
			Location: "https://" + info.Main.Path, Concluded: "Apache-2.0", Declared: "Apache-2.0", Copyright: noAssertion,
			Checksums: []checksum{{"SHA256", sum}},
			Refs:      []reference{purl(info.Main.Path, version)},
		}},
		Relationships: []relationship{{documentID, "DESCRIBES", programID}},
	}
	// The module path of the standard library in vulnerability databases is stdlib.
	modules := append([]*debug.Module{{Path: "stdlib", Version: info.GoVersion}}, info.Deps...)
	for _, m := range modules {
		if m.Replace != nil {
			m = m.Replace
		}
		p := pkg{
			ID: "SPDXRef-" + unsafe.ReplaceAllString(m.Path+"-"+m.Version, "-"), Name: m.Path, Version: m.Version,
			Location: noAssertion, Concluded: noAssertion, Declared: noAssertion, Copyright: noAssertion,
			Refs: []reference{purl(m.Path, m.Version)},
		}
		d.Packages = append(d.Packages, p)
		d.Relationships = append(d.Relationships, relationship{programID, "DEPENDS_ON", p.ID})
	}
	return d
}

// unsafe is what an SPDX ID may not have.
var unsafe = regexp.MustCompile(`[^A-Za-z0-9.-]`)

func purl(path, version string) reference {
	return reference{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + cmp.Or(version, "unknown")}
}
