#!/bin/sh
# Looks at HTML reports in a real Chromium (Debian package `chromium`): no script error, no request, every chart and the
# matrix visible, filter, units, theme, keyboard, no script, print, three widths, light and dark, and no violation of WCAG
# 2.1 A and AA by axe-core. Needs node and npm; what it installs goes to a folder of its own, never into the repository.
#
# scripts/check_html.sh [--shots DIR] REPORT.html...
set -eu
here=$(cd "$(dirname "$0")" && pwd)
modules=${CROSSTALK_NODE:-${TMPDIR:-/tmp}/crosstalk-check-html}
mkdir -p "$modules"
cp "$here"/check_html/package.json "$here"/check_html/package-lock.json "$here"/check_html/check.mjs "$modules"/
if [ ! -e "$modules/installed" ] || ! cmp -s "$here/check_html/package-lock.json" "$modules/installed"; then
    (cd "$modules" && npm ci --no-audit --no-fund --loglevel=error)
    cp "$here/check_html/package-lock.json" "$modules/installed"
fi
exec node "$modules/check.mjs" "$@"
