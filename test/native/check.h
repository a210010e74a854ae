// The C++ tests' harness: TEST(name) { CHECK(…); } in any file; main.cc runs them all.
#ifndef KEEPGATE_TEST_NATIVE_CHECK_H_
#define KEEPGATE_TEST_NATIVE_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace keepgate::test {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

struct Registration {
  Registration(const char* name, void (*run)()) { Tests().push_back({name, run}); }
};

inline void Fail(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: not so: %s\n", file, line, expression);
  std::exit(1);
}

// A directory of its own, removed with all that is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  std::string operator/(const char* name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace keepgate::test

#define TEST(name)                                                               \
  static void name();                                                            \
  static const keepgate::test::Registration registration_of_##name(#name, name); \
  static void name()

#define CHECK(expression) \
  ((expression) ? static_cast<void>(0) : keepgate::test::Fail(__FILE__, __LINE__, #expression))

#endif  // KEEPGATE_TEST_NATIVE_CHECK_H_
