# As driver.py, for cells of shell: one shell, whose variables and functions stay. It cannot be interrupted in a command.
exec 3<&0 0</dev/null
while IFS=' ' read -r nonce size <&3; do
  code=$(head -c "$size" <&3; echo .)
  if command eval "${code%.}" 3<&-; then status=ok; else status=failed; fi
  printf '\0%s %s\n' "$nonce" "$status"
  printf '\0%s %s\n' "$nonce" "$status" >&2
done
