# An invented plug-in: says the state it is given, and how old the oldest job is.
case "$1" in
OK) echo "QUEUE OK - 3 jobs | jobs=3;10;20;0 oldest=350ms;500;1000;0" ;;
*) echo "QUEUE UNKNOWN - no answer" && exit 3 ;;
esac
