#include "tools/ctl/command.h"

int main(int argc, char** argv) { return voldfs::ctl::run(argc, argv); }
