// SPDX-License-Identifier: Apache-2.0
#include "model/train/kernels.h"

#include <algorithm>
#include <array>

// The loops also exist for AVX2 with fused multiply-add, chosen when the program starts. Sanitizers
// instrument what would have to run before they are ready.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define BALLAST_CLONES __attribute__((target_clones("arch=haswell", "default")))
#else
#define BALLAST_CLONES
#endif

namespace ballast::train::kernels {
namespace {

constexpr std::size_t kLanes = 8;
constexpr std::size_t kBlock = 32;  // outputs whose sums stay in registers

}  // namespace

BALLAST_CLONES void affine(const float* in, const float* weights, const float* bias, float* out,
                           std::size_t rows, std::size_t m, std::size_t n) {
  for (std::size_t row = 0; row < rows; ++row) {
    const float* __restrict x = in + row * m;
    float* __restrict y = out + row * n;
    std::size_t block = 0;
    for (; block + kBlock <= n; block += kBlock) {
      alignas(32) std::array<float, kBlock> sum;
      for (std::size_t j = 0; j < kBlock; ++j) {
        sum[j] = bias[block + j];
      }
      for (std::size_t i = 0; i < m; ++i) {
        const float* __restrict w = weights + i * n + block;
        for (std::size_t j = 0; j < kBlock; ++j) {
          sum[j] += x[i] * w[j];
        }
      }
      for (std::size_t j = 0; j < kBlock; ++j) {
        y[block + j] = sum[j];
      }
    }
    for (; block < n; ++block) {
      float sum = bias[block];
      for (std::size_t i = 0; i < m; ++i) {
        sum += x[i] * weights[i * n + block];
      }
      y[block] = sum;
    }
  }
}

BALLAST_CLONES void affine_slope(const float* in, const float* out_slope, float* weights_slope,
                                 float* bias_slope, std::size_t rows, std::size_t m, std::size_t n) {
  for (std::size_t i = 0; i < m; ++i) {
    float* __restrict w = weights_slope + i * n;
    std::size_t block = 0;
    for (; block + kBlock <= n; block += kBlock) {
      alignas(32) std::array<float, kBlock> sum;
      for (std::size_t j = 0; j < kBlock; ++j) {
        sum[j] = w[block + j];
      }
      for (std::size_t row = 0; row < rows; ++row) {
        const float x = in[row * m + i];
        const float* __restrict slope = out_slope + row * n + block;
        for (std::size_t j = 0; j < kBlock; ++j) {
          sum[j] += x * slope[j];
        }
      }
      for (std::size_t j = 0; j < kBlock; ++j) {
        w[block + j] = sum[j];
      }
    }
    for (; block < n; ++block) {
      for (std::size_t row = 0; row < rows; ++row) {
        w[block] += in[row * m + i] * out_slope[row * n + block];
      }
    }
  }
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t j = 0; j < n; ++j) {
      bias_slope[j] += out_slope[row * n + j];
    }
  }
}

BALLAST_CLONES void affine_back(const float* out_slope, const float* weights, float* in_slope,
                                std::size_t rows, std::size_t m, std::size_t n) {
  for (std::size_t row = 0; row < rows; ++row) {
    const float* __restrict slope = out_slope + row * n;
    for (std::size_t i = 0; i < m; ++i) {
      const float* __restrict w = weights + i * n;
      // Several sums side by side: one alone could not be vectorised without changing its order.
      alignas(32) std::array<float, kLanes> sum{};
      std::size_t j = 0;
      for (; j + kLanes <= n; j += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
          sum[lane] += slope[j + lane] * w[j + lane];
        }
      }
      float total = 0;
      for (; j < n; ++j) {
        total += slope[j] * w[j];
      }
      for (const float part : sum) {
        total += part;
      }
      in_slope[row * m + i] = total;
    }
  }
}

BALLAST_CLONES void head(const float* in, const float* weights, const float* bias, float* out,
                         std::size_t rows, std::size_t m, std::size_t k) {
  for (std::size_t row = 0; row < rows; ++row) {
    const float* __restrict x = in + row * m;
    for (std::size_t o = 0; o < k; ++o) {
      const float* __restrict w = weights + o * m;
      alignas(32) std::array<float, kLanes> sum{};
      std::size_t i = 0;
      for (; i + kLanes <= m; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
          sum[lane] += x[i + lane] * w[i + lane];
        }
      }
      float total = bias[o];
      for (; i < m; ++i) {
        total += x[i] * w[i];
      }
      for (const float part : sum) {
        total += part;
      }
      out[row * k + o] = total;
    }
  }
}

BALLAST_CLONES void head_back(const float* in, const float* out_slope, const float* weights,
                              float* weights_slope, float* bias_slope, float* in_slope, std::size_t rows,
                              std::size_t m, std::size_t k) {
  if (in_slope != nullptr) {
    std::fill(in_slope, in_slope + rows * m, 0.0F);
  }
  for (std::size_t row = 0; row < rows; ++row) {
    const float* __restrict x = in + row * m;
    for (std::size_t o = 0; o < k; ++o) {
      const float slope = out_slope[row * k + o];
      float* __restrict ws = weights_slope + o * m;
      bias_slope[o] += slope;
      for (std::size_t i = 0; i < m; ++i) {
        ws[i] += slope * x[i];
      }
      if (in_slope != nullptr) {
        const float* __restrict w = weights + o * m;
        float* __restrict back = in_slope + row * m;
        for (std::size_t i = 0; i < m; ++i) {
          back[i] += slope * w[i];
        }
      }
    }
  }
}

}  // namespace ballast::train::kernels
