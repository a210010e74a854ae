{
  # Built by native/build.mjs, which says where Node's headers are.
  'variables': { 'openssl_fips': '' },
  'targets': [
    {
      'target_name': 'keepgate',
      'sources': [
        'native/core/aligned-pool.cc',
        'native/core/block-sum.cc',
        'native/core/crc32c.cc',
        'native/core/crc32c-arm.cc',
        'native/core/crc32c-avx512.cc',
        'native/core/crc32c-portable.cc',
        'native/core/crc32c-sse42.cc',
        'native/core/directory.cc',
        'native/core/every-thread.cc',
        'native/core/file.cc',
        'native/core/lane.cc',
        'native/core/new-file.cc',
        'native/core/process-rights.cc',
        'native/core/tcp-delay.cc',
        'native/binding/addon.cc',
        'native/binding/arguments.cc',
        'native/binding/buffer-binding.cc',
        'native/binding/checksum-binding.cc',
        'native/binding/cipher-binding.cc',
        'native/binding/directory-binding.cc',
        'native/binding/file-binding.cc',
        'native/binding/instance.cc',
        'native/binding/outcome.cc',
        'native/binding/process-binding.cc',
        'native/binding/tcp-binding.cc',
      ],
      'defines': ['NAPI_VERSION=8', 'NAPI_DISABLE_CPP_EXCEPTIONS', '_GNU_SOURCE', '_FILE_OFFSET_BITS=64'],
      # As system headers, which the warnings leave alone; the compiler runs in build/.
      'cflags': ['-isystem', '../node_modules/node-addon-api'],
      'cflags_cc': ['-std=c++17', '-O3', '-Wall', '-Wextra', '-Werror', '-fvisibility=hidden'],
      # Stays loaded when the worker that loaded it ends: the buffer pool is the process's.
      'ldflags': ['-Wl,-z,nodelete'],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
    },
  ],
}
